"""Pooling of images `[B, H, W, C]`: maxima, means and sums over windows, bins and all pixels.

Windows are reduced one axis after the other, columns first, as a fold over slices: the values of
XLA's `reduce_window`, and its gradients in much less time on a CPU. Maxima of float32 are a loop of
our own there, where it can be called.

A maximum that occurs more than once in a window passes its gradient to the first place where it
occurs, row by row, as in PyTorch; which of several NaN counts is not said.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ..errors import UserError
from .convolution import as_padding, as_pair, require_images
from .lowerings import current_lowering
from .maxima import PLACES, maxima
from .roots import safe_sqrt


def max_pool(x, window, stride=None, padding=0, *, ceil_mode=False):
    """The largest value of each window.

    Args:
      x: `[B, H, W, C]`, floats.
      window: an int, or one for each of H and W.
      stride: the same; None for the window's, so that windows touch and do not overlap.
      padding: pixels on each side, never chosen as the maximum: an int, `(H, W)` or
        `((top, bottom), (left, right))`; at most half the window.
      ceil_mode: also take a last window that the image does not fill, if it starts inside the
        image or in the padding before it.

    Returns: `[B, H', W', C]` in the dtype of `x`.

    Raises: TypeError for integers, ValueError for padding above half the window, UserError where
      the image is smaller than one window.

    >>> max_pool(jnp.arange(16.0).reshape(1, 4, 4, 1), 2)[0, :, :, 0].tolist()
    [[5.0, 7.0], [13.0, 15.0]]
    """
    require_images(x, "max_pool")
    rows, columns = plan_windows(x, window, stride, padding, ceil_mode)
    places = rows.length * columns.length
    if current_lowering() == "onednn" and x.dtype == jnp.float32 and places <= PLACES:
        return maxima(x, rows, columns)
    x = _reduce_axis(x, 2, columns, _first_maximum_of_two, -jnp.inf)
    return _reduce_axis(x, 1, rows, _first_maximum_of_two, -jnp.inf)


def average_pool(x, window, stride=None, padding=0, *, ceil_mode=False, count_include_pad=True):
    """The mean of each window; arguments and errors as in `max_pool`.

    With `count_include_pad` the zeros of the padding count as pixels; those that `ceil_mode` adds
    beyond the padding never do.

    >>> average_pool(jnp.ones((1, 2, 2, 1)), 2, 2, padding=1)[0, :, :, 0].tolist()
    [[0.25, 0.25], [0.25, 0.25]]
    """
    require_images(x, "average_pool")
    rows, columns = plan_windows(x, window, stride, padding, ceil_mode)
    sums = _sum_windows(x, rows, columns)
    counts = np.outer(_pixels(rows, count_include_pad), _pixels(columns, count_include_pad))
    return (sums / jnp.asarray(counts[None, :, :, None], sums.dtype)).astype(x.dtype)


def sum_pool(x, window, stride=None, padding=0, *, ceil_mode=False):
    """The sum of each window, half precision summed in float32; the rest as in `max_pool`.

    >>> sum_pool(jnp.ones((1, 4, 4, 1)), 2)[0, :, :, 0].tolist()
    [[4.0, 4.0], [4.0, 4.0]]
    """
    require_images(x, "sum_pool")
    return _sum_windows(x, *plan_windows(x, window, stride, padding, ceil_mode)).astype(x.dtype)


def l2_pool(x, window, stride=None, padding=0):
    """The root of the mean square of each window, with the gradient 0 where all of it is 0.

    Half precision is summed in float32, zeros of the padding count; the rest as in `max_pool`.

    Reference: Le et al. 2012, "Building high-level features using large scale unsupervised
    learning", section 3.2. Differs: the mean, not the sum, of the squares, so that the size of the
    window does not matter.

    >>> l2_pool(jnp.array([1.0, 7.0]).reshape(1, 1, 2, 1), (1, 2)).ravel().tolist()
    [5.0]
    """
    require_images(x, "l2_pool")
    y = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return safe_sqrt(average_pool(y * y, window, stride, padding)).astype(x.dtype)


def adaptive_average_pool(x, size):
    """The mean of each of `size` bins, an int or `(H', W')`: `[B, H, W, C] -> [B, H', W', C]`.

    Bin `i` of `n` covers the pixels `floor(i * H / n)` up to `ceil((i + 1) * H / n)` (exclusive),
    as in PyTorch, so that bins overlap where `n` does not divide `H`.

    >>> adaptive_average_pool(jnp.arange(3.0).reshape(1, 1, 3, 1), (1, 2)).ravel().tolist()
    [0.5, 1.5]
    """
    require_images(x, "adaptive_average_pool")
    bins = _bins(x, size)
    y = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    for axis in (2, 1):
        parts = [lax.slice_in_dim(y, *bin, axis=axis) for bin in bins[axis - 1]]
        y = jnp.stack([part.mean(axis) for part in parts], axis)
    return y.astype(x.dtype)


def adaptive_max_pool(x, size):
    """The largest value of each of `size` bins, cut as in `adaptive_average_pool`.

    >>> adaptive_max_pool(jnp.arange(3.0).reshape(1, 1, 3, 1), (1, 2)).ravel().tolist()
    [1.0, 2.0]
    """
    require_images(x, "adaptive_max_pool")
    bins = _bins(x, size)
    for axis in (2, 1):
        parts = [lax.slice_in_dim(x, *bin, axis=axis) for bin in bins[axis - 1]]
        x = jnp.stack([_first_maximum(part, axis) for part in parts], axis)
    return x


def global_average_pool(x):
    """The mean over all pixels: `[B, H, W, C] -> [B, C]`.

    >>> global_average_pool(jnp.arange(4.0).reshape(1, 2, 2, 1)).tolist()
    [[1.5]]
    """
    require_images(x, "global_average_pool")
    return x.mean((1, 2))


def global_max_pool(x):
    """The largest value of all pixels: `[B, H, W, C] -> [B, C]`.

    >>> global_max_pool(jnp.arange(4.0).reshape(1, 2, 2, 1)).tolist()
    [[3.0]]
    """
    require_images(x, "global_max_pool")
    return _first_maximum(x.reshape(x.shape[0], -1, x.shape[3]), 1)


def global_l2_pool(x):
    """The root of the mean square over all pixels: `[B, H, W, C] -> [B, C]`, as in `l2_pool`.

    >>> global_l2_pool(jnp.array([1.0, 7.0]).reshape(1, 1, 2, 1)).tolist()
    [[5.0]]
    """
    require_images(x, "global_l2_pool")
    y = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return safe_sqrt((y * y).mean((1, 2))).astype(x.dtype)


def global_average_and_max_pool(x):
    """Means, then maxima over all pixels, side by side: `[B, H, W, C] -> [B, 2 * C]`.

    >>> global_average_and_max_pool(jnp.arange(4.0).reshape(1, 2, 2, 1)).tolist()
    [[1.5, 3.0]]
    """
    return jnp.concatenate([global_average_pool(x), global_max_pool(x)], 1)


class _Window(NamedTuple):
    """How one axis is pooled: `outputs` windows of `length` pixels, `stride` apart, the first of
    them `low` pixels before the image."""

    size: int
    length: int
    stride: int
    low: int
    high: int
    outputs: int


def plan_windows(x, window, stride, padding, ceil_mode) -> list[_Window]:
    """How the rows and the columns of images are pooled; arguments and errors as in `max_pool`."""
    lengths = as_pair(window)
    strides = lengths if stride is None else as_pair(stride)
    pads = as_padding(padding)
    if min(*lengths, *strides) < 1:
        raise ValueError(f"window {lengths} and stride {strides}: at least 1")
    if any(2 * pad > length for length, sides in zip(lengths, pads) for pad in sides):
        raise ValueError(f"padding {pads} is more than half the window {lengths}")
    if min(x.shape[1:3]) < 1:
        raise UserError(f"there is nothing to pool in images of {x.shape[1]}x{x.shape[2]} pixels")
    windows = []
    for size, length, step, (low, high) in zip(x.shape[1:3], lengths, strides, pads):
        spare = size + low + high - length
        outputs = (spare + (step - 1 if ceil_mode else 0)) // step + 1
        if ceil_mode and (outputs - 1) * step >= size + low:
            outputs -= 1
        if outputs < 1:
            raise UserError(
                f"expected an image of at least one pooling window {lengths}, came "
                f"{x.shape[1]}x{x.shape[2]} with padding {pads}; try larger images, or less stride "
                "before"
            )
        windows.append(_Window(size, length, step, low, high, outputs))
    return windows


def _reduce_axis(x, axis, window: _Window, combine, neutral):
    """Fold every window of one axis by `combine`, from its first pixel to its last.

    The i-th pixels of all windows are one slice of one phase of the axis (every stride-th pixel).
    """
    phases = _phases(x, axis, window.stride)
    result = None
    for pixel in range(window.length):
        shift, phase = divmod(pixel - window.low, window.stride)
        first = max(0, -shift)  # the windows before it, and from `last` on, see padding here
        last = min(window.outputs, phases[phase].shape[axis] - shift)
        if first >= last:
            continue
        values = lax.slice_in_dim(phases[phase], first + shift, last + shift, axis=axis)
        if last - first < window.outputs:
            edges = [(0, 0, 0)] * x.ndim
            edges[axis] = (first, window.outputs - last, 0)
            values = lax.pad(values, jnp.asarray(neutral, x.dtype), edges)
        result = values if result is None else combine(result, values)
    return result


def _phases(x, axis, stride):
    """The pixels 0, stride, 2 stride, … of an axis, then 1, stride + 1, …, and so on."""
    size = x.shape[axis]
    if size % stride:
        return [
            lax.slice_in_dim(x, min(phase, size), size, stride, axis) for phase in range(stride)
        ]
    # The same, but its gradient is one concatenation, where that of strided slices is a sum.
    blocks = x.reshape(*x.shape[:axis], size // stride, stride, *x.shape[axis + 1 :])
    parts = lax.split(blocks, [1] * stride, axis + 1)
    return [lax.squeeze(part, [axis + 1]) for part in parts]


def _sum_windows(x, rows, columns):
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return _reduce_axis(_reduce_axis(x, 2, columns, lax.add, 0), 1, rows, lax.add, 0)


def _pixels(window: _Window, count_include_pad) -> np.ndarray:
    """How many pixels of one axis each window counts."""
    start = np.arange(window.outputs) * window.stride - window.low
    end = np.minimum(start + window.length, window.size + window.high)
    if count_include_pad:
        return end - start
    return np.minimum(end, window.size) - np.maximum(start, 0)


def _bins(x, size) -> list[list[tuple[int, int]]]:
    """Start and end of every bin, for H and for W."""
    size = as_pair(size)
    if min(size) < 1:
        raise ValueError(f"expected at least one bin, came {size}")
    return [
        [(i * pixels // n, -(-(i + 1) * pixels // n)) for i in range(n)]
        for pixels, n in zip(x.shape[1:3], size)
    ]


@jax.custom_jvp
def _first_maximum_of_two(a, b):
    """`lax.max`, whose derivative at a tie is wholly that of `a` (lax shares it)."""
    return lax.max(a, b)


@_first_maximum_of_two.defjvp
def _(primals, tangents):
    (a, b), (da, db) = primals, tangents
    # XLA compares anew wherever the answer is needed, and may round `a` and `b` differently there:
    # at a tie both, or neither, would then get the gradient. What is behind a root, it keeps.
    first = lax.sqrt(jnp.where(a >= b, 1.0, 0.0)) > 0.5
    return _first_maximum_of_two(a, b), lax.select(first, da, db)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _first_maximum(x, axis):
    """`jnp.max` over one axis, whose derivative is that of the first maximum."""
    return x.max(axis)


@_first_maximum.defjvp
def _(axis, primals, tangents):
    (x,), (dx,) = primals, tangents
    places = lax.broadcasted_iota(jnp.int32, x.shape, axis)
    first = places == jnp.argmax(x, axis, keepdims=True)
    return _first_maximum(x, axis), jnp.where(first, dx, 0).sum(axis)
