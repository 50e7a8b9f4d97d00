"""One image of a ResNet-50 looked at in three ways: what is archived bears out what is claimed."""

from .claims import read


def test_all_three_take_less_than_ten_seconds():
    archive, experiment = read("look_inside_speed")
    assert archive["command"] == "python experiments/look_inside_speed.py"
    assert [result["method"] for result in archive["results"]] == list(experiment.METHODS)
    assert all(result["model"] == "resnet50" for result in archive["results"])
    assert all(len(result["call_seconds"]) >= 5 for result in archive["results"])
    assert sum(max(result["call_seconds"]) for result in archive["results"]) < 10
