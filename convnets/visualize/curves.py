"""How a run went: what it wrote down at every step, as curves."""

import numpy as np

from ..errors import UserError
from ..training.journal import read_metrics


def read_curves(run) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Name of a number -> the steps at which it was written down, and its values.

    Args:
      run: the folder of a run, or what `fit` returns, or its `history`.

    Raises: UserError for a folder without a run, and an empty history.

    >>> read_curves([{"step": 1, "train_loss": 2.0}, {"step": 2, "train_loss": 1.0}])["train_loss"]
    (array([1, 2]), array([2., 1.]))
    """
    run = getattr(run, "history", run)
    lines = run if isinstance(run, list) else read_metrics(run)
    if not lines:
        raise UserError(f"{run} has no lines of a run")
    found = {}
    for line in lines:
        for name, value in line.items():
            if name != "step" and isinstance(value, int | float) and not isinstance(value, bool):
                found.setdefault(name, []).append((line["step"], value))
    return {
        name: (np.array([step for step, _ in points]), np.array([float(y) for _, y in points]))
        for name, points in found.items()
    }


def plot_curves(curves, *, title: str = ""):
    """Loss, top-1 error and learning rate of a run over its steps, as a matplotlib figure.

    `curves` are those of `read_curves`; a picture is left out where its numbers are not there.
    """
    import matplotlib.pyplot as plt

    losses = {name: points for name, points in curves.items() if name.endswith("_loss")}
    errors = {
        name.replace("accuracy", "error"): (steps, 100 * (1 - values))
        for name, (steps, values) in curves.items()
        if name.endswith("_accuracy") and "top" not in name
    }
    rates = {name: points for name, points in curves.items() if name == "learning_rate"}
    parts = [("loss", losses), ("error (%)", errors), ("learning rate", rates)]
    parts = [(label, lines) for label, lines in parts if lines]
    figure, axes = plt.subplots(
        1, max(1, len(parts)), figsize=(3.6 * max(1, len(parts)), 3), squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for one, (label, lines) in zip(axes[0], parts):
        for name, (steps, values) in lines.items():
            one.plot(steps, values, marker="." if len(steps) < 30 else "", label=name)
        one.set_xlabel("step")
        one.set_ylabel(label)
        if label != "learning rate":
            one.legend(frameon=False, fontsize=8)
            one.set_ylim(bottom=0)
    figure.suptitle(title)
    return figure
