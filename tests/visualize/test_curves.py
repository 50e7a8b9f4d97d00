import json

import matplotlib.pyplot as plt
import pytest

from convnets.errors import UserError
from convnets.visualize import plot_curves, read_curves

LINES = [
    {"step": 10, "epoch": 1, "train_loss": 1.0, "train_accuracy": 0.5, "learning_rate": 0.1},
    {"step": 20, "epoch": 2, "train_loss": 0.5, "train_accuracy": 0.75, "learning_rate": 0.05},
    {"step": 20, "epoch": 2, "test_loss": 0.6, "test_accuracy": 0.7, "note": "x", "best": True},
]


def test_the_curves_are_what_was_written_down(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LINES))
    for run in (tmp_path, LINES):
        curves = read_curves(run)
        assert set(curves) == {
            "epoch", "train_loss", "train_accuracy", "learning_rate", "test_loss", "test_accuracy",
        }  # fmt: skip
        steps, values = curves["train_loss"]
        assert (steps.tolist(), values.tolist()) == ([10, 20], [1.0, 0.5])
        assert [part.tolist() for part in curves["test_loss"]] == [[20], [0.6]]


def test_the_picture_has_loss_error_and_rate():
    figure = plot_curves(read_curves(LINES), title="a run")
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss", "error (%)", "learning rate"]
    errors = {line.get_label(): line.get_ydata().tolist() for line in figure.axes[1].lines}
    assert errors["train_error"] == [50, 25]
    assert errors["test_error"] == pytest.approx([30])
    plt.close(figure)


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(UserError):
        read_curves(tmp_path / "nothing")
