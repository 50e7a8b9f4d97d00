"""Features as pictures: what each unit of a code adds to an image, an image as a sum of these, and
who responds most to whom."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..errors import UserError
from .filters import arrange_grid


class WeightedSum(NamedTuple):
    """The largest terms of an image that is a sum of features times weights.

    Attributes:
      units: `[N]`, which features, those of the largest share first.
      weights: `[N]`, of each.
      features: `[N, H, W, C]`.
      total: `[H, W, C]`, the sum of these terms, and of what was there without any.
    """

    units: np.ndarray
    weights: np.ndarray
    features: np.ndarray
    total: np.ndarray

    def __str__(self):
        """As `0.9 f3 + 0.7 f12 - 0.2 f5`."""
        terms = [f"{weight:+.1f} f{unit}" for unit, weight in zip(self.units, self.weights)]
        return " ".join(terms).replace("+", "+ ").replace("-", "- ").removeprefix("+ ")


def decode_units(decode: Callable, shape, units=None) -> np.ndarray:
    """What each unit of a code alone adds to the image: `decode(e_k) - decode(0)`.

    The features of a second layer are seen through the first decoder by a `decode` that goes down
    through both: `lambda code: decode1(decode2(code))`. Where decoders are linear that is the
    product of their matrices; where they are not, it is what a unit at 1 adds to a code of zeros.

    Args:
      decode: codes `[N, *shape]` to images `[N, H, W, C]`.
      shape: of one code, `(K,)` or `(H', W', K)`.
      units: places in the code, integers for `(K,)`, else tuples; None for all.

    Returns: float32 `[N, H, W, C]`, for `plot_grid`.

    Raises: UserError for a unit outside of the code.

    >>> features = np.arange(8.0).reshape(2, 2, 2, 1)
    >>> found = decode_units(lambda code: 5 + np.tensordot(code, features, 1), (2,))
    >>> bool((found == features).all())
    True
    """
    places = list(np.ndindex(*shape)) if units is None else [np.atleast_1d(x) for x in units]
    codes = np.zeros((len(places) + 1, *shape), np.float32)
    for code, place in zip(codes, places):
        place = tuple(int(x) for x in place)
        if len(place) != len(shape) or not all(0 <= x < n for x, n in zip(place, shape)):
            raise UserError(f"there is no unit {place} in a code of {tuple(shape)}")
        code[place] = 1
    images = np.asarray(decode(codes), np.float32)
    return images[:-1] - images[-1:]


def weigh_features(code, features, *, count: int = 5, start=0.0) -> WeightedSum:
    """The terms that are most of an image, by the length of weight times feature.

    Args:
      code: `[K]`, the weights.
      features: `[K, H, W, C]`, as from `decode_units` or a dictionary.
      count: of terms.
      start: `[H, W, C]` or a number, the image of a code of zeros.

    Raises: UserError where there is not a weight for each feature, and for no term.

    >>> features = np.eye(3).reshape(3, 1, 3, 1)
    >>> found = weigh_features([0.1, -0.9, 0.7], features, count=2)
    >>> str(found), found.total.shape
    ('- 0.9 f1 + 0.7 f2', (1, 3, 1))
    """
    code, features = np.asarray(code, np.float32), np.asarray(features, np.float32)
    if features.ndim != 4 or code.shape != features.shape[:1]:
        raise UserError(f"expected [K] and [K, H, W, C], came {code.shape} and {features.shape}")
    _require_count(count)
    terms = code.reshape(-1, 1, 1, 1) * features
    order = np.argsort(-np.square(terms).sum((1, 2, 3)), kind="stable")[:count]
    return WeightedSum(order, code[order], features[order], start + terms[order].sum(0))


def plot_weighted_sum(image, terms: WeightedSum):
    """A matplotlib figure: the image, the features with their weights, and their sum.

    Args:
      image: `[H, W, C]`.
      terms: as from `weigh_features`; its `total` is what is drawn as the sum.
    """
    import matplotlib.pyplot as plt

    pictures = [np.asarray(image, np.float32), *terms.features, terms.total]
    weights = [f"{weight:.2f} f{unit}" for unit, weight in zip(terms.units, terms.weights)]
    titles = ["image", *weights, "sum"]
    figure, axes = plt.subplots(
        1, len(pictures), figsize=(1.1 * len(pictures), 1.5), layout="constrained"
    )
    for axis, picture, title in zip(axes, pictures, titles):
        grid = arrange_grid(picture[None])
        axis.imshow(grid.squeeze(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axis.set_axis_off()
        axis.set_title(title, fontsize=9)
    return figure


def strongest_units(responses, count: int = 1) -> np.ndarray:
    """Of each image the units that respond most: `[N, …]` to `[N, count]`, places in a flat code.

    >>> strongest_units([[0.1, 0.9, 0.5]], 2).tolist()
    [[1, 2]]
    """
    _require_count(count)
    responses = np.asarray(responses).reshape(len(responses), -1)
    return np.argsort(-responses, axis=1, kind="stable")[:, :count]


def strongest_images(responses, count: int = 1) -> np.ndarray:
    """Of each unit the images that it responds to most: `[N, …]` to `[units, count]`.

    >>> strongest_images([[0.1, 0.9], [0.3, 0.2], [0.2, 0.4]], 2).tolist()
    [[1, 2], [0, 2]]
    """
    _require_count(count)
    responses = np.asarray(responses).reshape(len(responses), -1)
    return np.argsort(-responses, axis=0, kind="stable")[:count].T


def _require_count(count):
    if count < 1:
        raise UserError(f"at least 1, not {count}")
