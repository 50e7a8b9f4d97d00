"""What a classifier takes for what, and where it errs with the greatest confidence."""

from typing import NamedTuple

import numpy as np

from ..errors import UserError
from ..metrics import confusion_matrix, to_host
from ..ops import image
from .filters import arrange_grid


class Mistakes(NamedTuple):
    """Examples that are classified wrongly, the most confident first, each `[M]`: their positions,
    their labels, what they were taken for, and the probability of that."""

    examples: np.ndarray
    labels: np.ndarray
    predictions: np.ndarray
    probabilities: np.ndarray


def confident_mistakes(probabilities, labels, *, count: int | None = None) -> Mistakes:
    """The examples whose strongest class is wrong, by its probability.

    Args:
      probabilities: `[N, K]`, as `convnets.predict` gives them.
      labels: ints `[N]`.
      count: at most so many; None for all.

    Raises: UserError for arrays that do not fit.

    >>> confident_mistakes([[0.6, 0.4], [0.9, 0.1], [0.2, 0.8]], [1, 1, 1]).examples.tolist()
    [1, 0]
    """
    probabilities, labels = _checked(probabilities, labels)
    predictions = probabilities.argmax(1)
    wrong = np.flatnonzero(predictions != labels)
    strength = probabilities[wrong, predictions[wrong]]
    order = np.argsort(-strength, kind="stable")[:count]
    chosen = wrong[order]
    return Mistakes(chosen, labels[chosen], predictions[chosen], strength[order])


def count_confusions(probabilities, labels) -> np.ndarray:
    """How often an example of one class (row) was taken for another (column): int `[K, K]`.

    >>> count_confusions([[0.6, 0.4], [0.9, 0.1], [0.2, 0.8]], [0, 1, 1]).tolist()
    [[1, 0], [1, 1]]
    """
    return to_host(confusion_matrix(*_checked(probabilities, labels)))[0]


def plot_confusions(matrix, *, class_names=None):
    """A confusion matrix `[K, K]` as a matplotlib figure.

    The color is the share of the row's examples; numbers stand in it for up to 20 classes.
    """
    import matplotlib.pyplot as plt

    matrix = np.asarray(matrix)
    classes = len(matrix)
    names = [str(k) for k in range(classes)] if class_names is None else class_names
    if matrix.shape != (classes, classes) or len(names) != classes:
        raise UserError(f"expected a matrix [K, K] and K names, came {matrix.shape}, {len(names)}")
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    side = min(10, 1.8 + 0.42 * classes)
    figure, axes = plt.subplots(figsize=(side + 0.8, side), layout="constrained")
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(picture, ax=axes, label="share of the class", shrink=0.8)
    axes.set_xlabel("taken for")
    axes.set_ylabel("class")
    if classes <= 20:
        axes.set_xticks(range(classes), names, rotation=90 if max(map(len, names)) > 2 else 0)
        axes.set_yticks(range(classes), names)
        for row, column in np.argwhere(matrix):
            color = "white" if shares[row, column] > 0.5 else "black"
            text = str(matrix[row, column])
            axes.text(column, row, text, ha="center", va="center", color=color, fontsize=8)
    return figure


def plot_mistakes(source, mistakes: Mistakes, *, class_names=None, columns: int = 6):
    """The images of mistakes as a matplotlib figure: label, what it was taken for, how surely.

    Raises: UserError where there are no mistakes to be shown.
    """
    import matplotlib.pyplot as plt

    if not len(mistakes.examples):
        raise UserError("there are no mistakes to show")
    images = np.asarray(image.to_float(source.batch(mistakes.examples)["image"]))
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    size = (1.5 * columns, 1.75 * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for one in axes.flat:
        one.set_axis_off()
    for one, picture, _, label, guess, probability in zip(axes.flat, images, *mistakes):
        names = (label, guess) if class_names is None else (class_names[label], class_names[guess])
        picture = picture if picture.shape[2] in (1, 3) else picture.mean(2, keepdims=True)
        shown = arrange_grid(picture[None], scale="none").squeeze()
        one.imshow(shown, "gray", vmin=0, vmax=1, interpolation="nearest")
        one.set_title(f"{names[0]}, taken for\n{names[1]} ({probability:.0%})", fontsize=8)
    return figure


def _checked(probabilities, labels):
    probabilities, labels = np.asarray(probabilities), np.asarray(labels)
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1]:
        raise UserError(
            f"expected probabilities [N, K] and labels [N], came {probabilities.shape} and "
            f"{labels.shape}"
        )
    if labels.size and not 0 <= labels.min() <= labels.max() < probabilities.shape[1]:
        raise UserError(
            f"labels are 0 to {probabilities.shape[1] - 1}, came {labels.min()} to {labels.max()}"
        )
    if np.isnan(probabilities).any():
        raise UserError("there are probabilities that are no numbers (NaN)")
    return probabilities, labels
