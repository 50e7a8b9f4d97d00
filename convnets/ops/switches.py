"""Max pooling that remembers where its maxima were, and the way back."""

import jax.numpy as jnp
from jax import lax

from .convolution import as_pair, require_images
from .pooling import plan_windows


def max_pool_with_switches(x, window, stride=None, padding=0, *, ceil_mode=False):
    """The largest value of each window, and its place in the image.

    Args:
      x: `[B, H, W, C]`, floats; the other arguments as in `max_pool`.

    Returns: the values of `max_pool`, `[B, H', W', C]`, and the switches, int32 of the same shape:
      the place `row * W + column` of each maximum, the first of several, row by row.

    Raises: as `max_pool`.

    Reference: Zeiler, Taylor, Fergus 2011, "Adaptive deconvolutional networks for mid and high
    level feature learning", section 2.2; Zeiler, Fergus 2014, section 2.1.

    >>> x = jnp.array([1.0, 7.0, 3.0, 5.0]).reshape(1, 2, 2, 1)
    >>> y, switches = max_pool_with_switches(x, 2)
    >>> y.ravel().tolist(), switches.ravel().tolist()
    ([7.0], [1])
    """
    require_images(x, "max_pool_with_switches")
    rows, columns = plan_windows(x, window, stride, padding, ceil_mode)
    padded = _pad(x, rows, columns)
    tops, lefts = (jnp.arange(axis.outputs) * axis.stride - axis.low for axis in (rows, columns))
    first = jnp.maximum(tops, 0)[:, None] * x.shape[2] + jnp.maximum(lefts, 0)[None]
    shape = (x.shape[0], rows.outputs, columns.outputs, x.shape[3])
    values = jnp.full(shape, -jnp.inf, x.dtype)
    places = jnp.broadcast_to(first[None, :, :, None], shape)
    for row in range(rows.length):
        for column in range(columns.length):
            seen = _every(_every(padded, 1, row, rows), 2, column, columns)
            place = (tops + row)[:, None] * x.shape[2] + (lefts + column)[None]
            larger = (seen > values) | (seen != seen)  # NaN is passed on, as by max_pool
            values = jnp.where(larger, seen, values)
            places = jnp.where(larger, place[None, :, :, None], places)
    return values, places.astype(jnp.int32)


def unpool(y, switches, size):
    """Every value at the place that its switch says, zeros elsewhere.

    Where windows overlap and share a maximum, what they put there is summed: the result is the
    gradient of `max_pool` for the cotangent `y`.

    Args:
      y: `[B, H', W', C]`, floats.
      switches: of the pooling, the same shape.
      size: of the image that was pooled, an int or `(H, W)`.

    Returns: `[B, H, W, C]` in the dtype of `y`.

    Raises: TypeError for integers, ValueError for switches of another shape.

    >>> unpool(jnp.full((1, 1, 1, 1), 7.0), jnp.ones((1, 1, 1, 1), int), 2).ravel().tolist()
    [0.0, 7.0, 0.0, 0.0]
    """
    require_images(y, "unpool")
    if y.shape != switches.shape:
        raise ValueError(f"unpool: values {y.shape} and switches {switches.shape} differ in shape")
    (height, width), (images, _, _, channels) = as_pair(size), y.shape
    places = switches.reshape(images, -1, channels)
    image = lax.broadcasted_iota(jnp.int32, places.shape, 0)
    channel = lax.broadcasted_iota(jnp.int32, places.shape, 2)
    empty = jnp.zeros((images, height * width, channels), y.dtype)
    x = empty.at[image, places, channel].add(y.reshape(places.shape))
    return x.reshape(images, height, width, channels)


def _pad(x, rows, columns):
    """The image with -inf around it, as far as the windows reach."""
    edges = [(0, 0, 0)]
    for axis in (rows, columns):
        reach = (axis.outputs - 1) * axis.stride + axis.length - axis.low
        edges.append((axis.low, max(reach - axis.size, 0), 0))
    return lax.pad(x, jnp.asarray(-jnp.inf, x.dtype), [*edges, (0, 0, 0)])


def _every(x, axis, first, window):
    """One pixel of each window along an axis."""
    last = first + (window.outputs - 1) * window.stride + 1
    return lax.slice_in_dim(x, first, last, window.stride, axis)
