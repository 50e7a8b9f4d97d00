"""How parameters, or their gradients, are spread, layer by layer."""

from typing import NamedTuple

import jax
import numpy as np
from flax.traverse_util import flatten_dict

from ..errors import UserError


class Histogram(NamedTuple):
    """How many values of one array lie in each of equal bins, `[bins]`, and the bins' edges,
    `[bins + 1]`; and what tells most: their mean, deviation, and the share that is 0."""

    counts: np.ndarray
    edges: np.ndarray
    mean: float
    deviation: float
    zeros: float


def tree_histograms(tree, *, bins: int = 50) -> dict[str, Histogram]:
    """The histogram of every array of a tree that has values, by its path.

    Args:
      tree: parameters, or gradients such as `convnets.gradient` gives, as nested dicts.
      bins: from the smallest to the largest value of each array.

    Raises: UserError for values that are not finite: NaN and infinity have no place in a histogram.

    >>> found = tree_histograms({"conv1": {"bias": np.array([0.0, 1.0, 1.0])}}, bins=2)
    >>> found["conv1/bias"].counts.tolist(), round(found["conv1/bias"].zeros, 2)
    ([1, 2], 0.33)
    """
    found = {}
    for path, array in flatten_dict(jax.device_get(tree), sep="/").items():
        values = np.asarray(array, np.float64).ravel()
        if not values.size:
            continue
        if not np.isfinite(values).all():
            raise UserError(f"{path} has values that are not finite")
        counts, edges = np.histogram(values, bins)
        zeros = float((values == 0).mean())
        found[path] = Histogram(counts, edges, float(values.mean()), float(values.std()), zeros)
    return found


def plot_histograms(histograms: dict[str, Histogram], *, columns: int = 4, title: str = ""):
    """Histograms of `tree_histograms` beside each other, as a matplotlib figure; counts by their
    logarithm."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import NullFormatter

    if not histograms:
        raise UserError("there are no histograms to show")
    columns = min(columns, len(histograms))
    rows = -(-len(histograms) // columns)
    size = (2.6 * columns, 1.9 * rows + 0.3)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for one in axes.flat[len(histograms) :]:
        one.set_axis_off()
    for one, (path, found) in zip(axes.flat, histograms.items()):
        one.stairs(found.counts, found.edges, fill=True)
        one.set_yscale("log")
        one.set_title(path.removeprefix("backbone/"), fontsize=8)
        one.set_xlabel(f"{found.mean:.2g} ± {found.deviation:.2g}", fontsize=8)
        one.tick_params(labelsize=7)
        one.yaxis.set_minor_formatter(NullFormatter())
        one.locator_params(axis="x", nbins=4)
    figure.suptitle(title)
    return figure
