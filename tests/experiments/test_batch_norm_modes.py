"""Batch norm in right and wrong modes: what is archived bears out what is claimed."""

from .claims import read


def test_wrong_modes_and_statistics_cost_accuracy():
    archive, experiment = read("batch_norm_modes")
    assert archive["command"] == "python experiments/batch_norm_modes.py"
    assert [result["seed"] for result in archive["results"]] == [0, 1, 2]
    for result in archive["results"]:
        found = result["accuracies"]
        assert found.keys() == experiment.WAYS.keys()
        assert found["right"] > 85
        # The statistics of the test's own mixed batches, and exact ones, are as good or better.
        assert found["mixed_batches"] > 90
        assert found["recomputed"] > 90
        for way in ("one_class", "single_images", "never_updated", "stale"):
            assert found[way] < 25, way
        assert found["frozen"] < found["recomputed"] - 5


def test_momentum_changes_nothing_but_the_running_averages():
    archive, _ = read("batch_norm_modes")
    for result in archive["results"]:
        assert result["last_losses"]["right"] == result["last_losses"]["stale"]
