"""Plain and residual networks of four depths: what is archived bears out what is claimed."""

import io
import statistics

import matplotlib.pyplot as plt
import pytest

from .claims import load, read_part


def training_error(archive, model):
    """In percent, the mean of its seeds; skips where none is archived yet."""
    found = [x["train_error_percent"] for x in archive["results"] if x["model"] == model]
    if not found:
        pytest.skip(f"{model} is not archived")
    return statistics.mean(found)


def test_56_plain_layers_learn_less_than_20():
    archive, _ = read_part("plain_versus_residual")
    assert training_error(archive, "cifar_plain56") > training_error(archive, "cifar_plain20")


def test_56_residual_layers_begun_as_identities_learn_more_than_20():
    archive, _ = read_part("plain_versus_residual")
    deep, shallow = (training_error(archive, f"cifar_resnet{depth}, zeros") for depth in (56, 20))
    assert deep < shallow


def test_begun_as_in_the_paper_56_are_behind_by_less_than_plain_ones():
    """In a twentieth of the paper's steps, which README.md says."""
    archive, _ = read_part("plain_versus_residual")
    plain, residual = (
        training_error(archive, f"cifar_{family}56") - training_error(archive, f"cifar_{family}20")
        for family in ("plain", "resnet")
    )
    assert 0 < residual < plain / 2


def test_curves_go_to_the_last_step_of_one_schedule():
    archive, _ = read_part("plain_versus_residual")
    settings = archive["settings"]
    assert not settings["quick"]
    assert settings["steps"] >= 3200
    for result in archive["results"]:
        assert result["test_examples"] == 10_000
        for name in ("train_curve", "test_curve"):
            steps = [step for step, _ in result[name]]
            assert steps == sorted(steps)
            assert steps[-1] == settings["steps"]
        assert result["test_curve"][-1][1] == pytest.approx(result["test_error_percent"], abs=1e-3)


@pytest.mark.parametrize(
    ("models", "lines"),
    [
        (["cifar_plain20"], [["20"], [], []]),
        (["cifar_plain56", "cifar_resnet20", "cifar_plain20"], [["20", "56"], ["20"], []]),
        (["cifar_resnet20, zeros", "cifar_resnet44"], [[], ["44"], ["20"]]),
    ],
)
def test_the_figure_can_be_drawn_of_a_part(models, lines):
    curve = [[391, 60.0], [782, 50.0]]
    results = [{"model": name, "train_curve": curve, "test_curve": curve} for name in models]
    figure = load("plain_versus_residual").figure({"results": results})
    figure.savefig(io.BytesIO())
    legends = [axis.get_legend() for axis in figure.axes]
    shown = [[text.get_text() for text in x.get_texts()] if x else [] for x in legends]
    assert shown == [[f"{depth} layers" for depth in depths] for depths in lines]
    plt.close(figure)
