"""Convolution of images, `[B, H, W, C]` with kernels `[kernel H, kernel W, C in, C out]`.

This is the one place where a convolution is written; layers and models call it.
"""

from collections.abc import Sequence
from operator import index

import jax.numpy as jnp

from ..errors import UserError
from .bands import convolve_in_bands
from .lowerings import requested_lowering
from .primitives import Window

Pair = tuple[int, int]
Padding = int | Sequence[int] | Sequence[Sequence[int]]


def convolve(x, kernel, *, stride=1, padding=0, dilation=1, groups=1):
    """The cross-correlation that the field calls convolution.

    Args:
      x: `[B, H, W, C]`, floats.
      kernel: `[kernel H, kernel W, C / groups, features]`, of the dtype of `x`.
      stride: an int, or one for each of H and W.
      padding: pixels of zeros on each side: an int, `(H, W)` or `((top, bottom), (left, right))`.
      dilation: distance between the taps of the kernel, an int or `(H, W)`.
      groups: channels in and features are cut into as many parts, convolved each with its own.

    Returns: `[B, H', W', features]` in the dtype of `x`; `H', W'` as `output_size` gives them.

    Raises: TypeError for integers and mixed dtypes, ValueError for shapes that do not fit.

    >>> convolve(jnp.ones((1, 5, 5, 1)), jnp.ones((3, 3, 1, 2)), stride=2, padding=1).shape
    (1, 3, 3, 2)
    """
    require_images(x, "convolve")
    if x.dtype != kernel.dtype:
        raise TypeError(f"convolve: the image is {x.dtype} but the kernel {kernel.dtype}")
    if kernel.ndim != 4:
        raise ValueError(f"convolve: expected a kernel [H, W, C, features], came {kernel.shape}")
    channels, features = x.shape[3], kernel.shape[3]
    if groups < 1 or channels % groups or features % groups:
        raise ValueError(
            f"{groups} groups do not divide {channels} channels and {features} features"
        )
    if kernel.shape[2] * groups != channels:
        raise ValueError(
            f"a kernel {kernel.shape} in {groups} groups takes {kernel.shape[2] * groups} "
            f"channels, but the image {x.shape} has {channels}"
        )
    output_size(x.shape[1:3], kernel.shape[:2], stride=stride, padding=padding, dilation=dilation)
    window = Window(as_pair(stride), as_padding(padding), as_pair(dilation), index(groups))
    return convolve_in_bands(x, kernel, window, requested_lowering())


def output_size(size, kernel_size, *, stride=1, padding=0, dilation=1) -> Pair:
    """The image size `(H', W')` after a convolution: `(size + padding - reach) // stride + 1`,
    where a kernel reaches over `(kernel_size - 1) * dilation + 1` pixels.

    Raises: UserError where not even one pixel would be left.

    >>> output_size((224, 200), 7, stride=2, padding=3)
    (112, 100)
    """
    size, kernel_size, dilation = as_pair(size), as_pair(kernel_size), as_pair(dilation)
    pads, stride = as_padding(padding), as_pair(stride)
    if min(*kernel_size, *stride, *dilation) < 1:
        raise ValueError(f"kernel {kernel_size}, stride {stride}, dilation {dilation}: at least 1")
    reach = tuple((k - 1) * d + 1 for k, d in zip(kernel_size, dilation))
    padded = tuple(n + low + high for n, (low, high) in zip(size, pads))
    if any(n < r for n, r in zip(padded, reach)):
        raise UserError(
            f"expected an image of at least {reach[0]}x{reach[1]} pixels with its padding, came "
            f"{size[0]}x{size[1]} with padding {pads}; try larger images, or less stride before"
        )
    return tuple((n - r) // s + 1 for n, r, s in zip(padded, reach, stride))


def as_pair(value) -> Pair:
    """`(H, W)` from one int for both, or from a pair."""
    if isinstance(value, Sequence):
        if len(value) != 2:
            raise ValueError(f"expected an int or a pair (H, W), came {value}")
        return index(value[0]), index(value[1])
    return index(value), index(value)


def as_padding(padding: Padding) -> tuple[Pair, Pair]:
    """`((top, bottom), (left, right))` from an int, a pair `(H, W)`, or the four numbers."""
    if isinstance(padding, str):
        raise TypeError(
            f"padding is a number of pixels, not {padding!r}: 0 for VALID, (k - 1) // 2 for SAME "
            "with an odd kernel of k"
        )
    rows, columns = padding if isinstance(padding, Sequence) else (padding, padding)
    pads = as_pair(rows), as_pair(columns)
    if min(*pads[0], *pads[1]) < 0:
        raise ValueError(f"padding is at least 0, came {padding}")
    return pads


def require_images(x, name: str):
    """Refuse what is no batch of float images: bytes would be computed with, and wrongly."""
    require_batch(x, name)
    require_floats(x, name)


def require_batch(x, name: str):
    if x.ndim != 4:
        raise UserError(f"{name}: expected images [B, H, W, C], came shape {x.shape}")


def require_floats(x, name: str):
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"{name}: expected floats, came {x.dtype} {x.shape}; see ops.prepare")
