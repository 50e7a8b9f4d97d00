"""How the same numbers lie in our arrays and in PyTorch's: a shape here, and one there."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple


class Layout(NamedTuple):
    """`store` makes PyTorch's array of ours; `load` makes ours of PyTorch's, given our shape."""

    store: Callable
    load: Callable


def window(side: int, *, convolution: bool = False) -> Layout:
    """A dense layer behind a flattened map of `side` times `side` pixels.

    Ours `[side * side * C, features]` counts channels fastest; theirs `[features, C * side * side]`
    counts them slowest, or is the kernel `[features, C, side, side]` of a convolution.
    """

    def store(x):
        rows, features = x.shape
        x = x.reshape(side, side, rows // side**2, features).transpose(3, 2, 0, 1)
        return x if convolution else x.reshape(features, rows)

    def load(x, shape):
        rows, features = shape
        x = x.reshape(features, rows // side**2, side, side)
        return x.transpose(2, 3, 1, 0).reshape(shape)

    return Layout(store, load)


SAME = Layout(lambda x: x, lambda x, shape: x)
# [kernel H, kernel W, C, features] and [features, C, kernel H, kernel W].
CONVOLUTION = Layout(lambda x: x.transpose(3, 2, 0, 1), lambda x, shape: x.transpose(2, 3, 1, 0))
# [C, features] and [features, C].
DENSE = Layout(lambda x: x.T, lambda x, shape: x.T)
# A dense layer that is a 1x1 convolution there.
POINTWISE = Layout(lambda x: x.T[:, :, None, None], lambda x, shape: x[:, :, 0, 0].T)
# One number for each channel: [C] and [C, 1, 1].
CHANNEL = Layout(lambda x: x[:, None, None], lambda x, shape: x[:, 0, 0])
window_convolution = partial(window, convolution=True)


def layout_of(shape: tuple[int, ...]) -> Layout:
    """That of a kernel or vector of this shape of ours, where nothing else is said."""
    return {2: DENSE, 4: CONVOLUTION}.get(len(shape), SAME)
