"""The table of sizes; that each of its numbers is right is tested with the models' contract."""

import pytest

from convnets import create_model, list_models, sizing, summarize


def test_every_registered_model_is_listed():
    assert [*sizing.model_sizes()] == list_models()
    assert [*sizing.model_sizes("resnet*")] == list_models("resnet*")
    assert sizing.model_sizes("nothing*") == {}


@pytest.mark.parametrize("name", ["lenet5_1998", "mobilenet_v3_small", "googlenet"])
def test_the_numbers_are_those_of_a_summary(name):
    size = sizing.model_sizes()[name]
    options = {"auxiliary": ()} if name == "googlenet" else {}
    summary = summarize(create_model(name, **options), size.image_shape)
    assert size[1:] == (summary.parameters, summary.multiply_adds)


def test_auxiliary_heads_do_not_count():
    assert sizing.model_sizes()["googlenet"].parameters == 6_624_904
    assert sizing.model_sizes()["inception_v3"].parameters == 23_834_568


def test_a_line_begins_with_the_name_and_columns_end_at_one_place():
    lines = sizing.format_sizes(sizing.model_sizes()).splitlines()
    assert [line.split()[0] for line in lines] == list_models()
    assert len({len(line) for line in lines}) == 1
    (line,) = (line for line in lines if line.startswith("resnet50 "))
    assert line.split()[1:] == [
        *("224x224x3", "25,557,032", "parameters", "4.09", "G", "multiply-adds")
    ]


def test_the_table_is_written_again_as_it_is(tmp_path, monkeypatch):
    before = sizing.TABLE.read_text()
    monkeypatch.setattr(sizing, "TABLE", tmp_path / "sizes.json")
    monkeypatch.setattr("convnets.models.list_models", lambda: ["lenet1", "linear"])
    sizing.write_sizes()
    lines = sizing.TABLE.read_text().splitlines()
    assert [line.strip(",") for line in lines[1:-1]] == [
        line.strip(",") for line in before.splitlines() if '"lenet1"' in line or '"linear"' in line
    ]
    assert [*sizing.model_sizes()] == ["lenet1", "linear"]
