"""Parts of images brought to another size, where the part is known on the device only."""

import operator

import jax.numpy as jnp
from jax import lax

from ..errors import UserError
from .convolution import require_floats


def resize_part(image, box, height, width):
    """A part of an image brought to `height`x`width`: bilinear, and antialiased where it shrinks.

    Args:
      image: `[H, W, C]`, floats.
      box: `(y0, x0, y1, x1)`, whole pixels; Python's or the device's. Nothing outside is seen.
      height, width: of the result.

    Returns: `[height, width, C]`. Two products with matrices, one for each axis.

    Raises: TypeError for integers.

    Reference: the triangle by which Pillow, torchvision and `tf.image.resize` resize with
    antialiasing.

    >>> image = jnp.arange(4.0).reshape(1, 4, 1)
    >>> (7 * resize_part(image, (0, 0, 1, 4), 1, 2).ravel()).round().tolist()
    [5.0, 16.0]
    """
    require_floats(image, "resize_part")
    top, left, bottom, right = box
    rows = resizing_matrix(top, bottom, height, image.shape[0]).astype(image.dtype)
    columns = resizing_matrix(left, right, width, image.shape[1]).astype(image.dtype)
    return jnp.einsum("ih,hwc,jw->ijc", rows, image, columns, precision=lax.Precision.HIGHEST)


def resizing_matrix(start, stop, count, size):
    """The weights `[count, size]`, float32, by which `size` pixels in a line are read where those
    from `start` to `stop` become `count`. Each row sums to one, or to nothing where there is none.

    >>> resizing_matrix(0, 2, 4, 3).tolist()
    [[1.0, 0.0, 0.0], [0.75, 0.25, 0.0], [0.25, 0.75, 0.0], [0.0, 1.0, 0.0]]
    """
    scale = (jnp.asarray(stop, jnp.float32) - start) / count
    reach = jnp.maximum(scale, 1)  # of the triangle, to either side
    place = start + (jnp.arange(count, dtype=jnp.float32)[:, None] + 0.5) * scale - 0.5
    pixel = jnp.arange(size, dtype=jnp.float32)[None, :]
    weights = jnp.maximum(0, 1 - abs(pixel - place) / reach)
    weights = jnp.where((pixel >= start) & (pixel < stop), weights, 0)
    total = weights.sum(1, keepdims=True)
    return weights / jnp.where(total == 0, 1, total)


def normalize_width(image, width, *, threshold=0.0):
    """What is drawn on a dark ground, brought to a given width and moved to the middle.

    The columns with a pixel above the threshold, from the first to the last, become `width` columns
    around the middle one; rows stay as they are, and all other columns become zero. An image
    without such a pixel stays as it is.

    Args:
      image: `[H, W, C]`, floats in [0, 1].
      width: in pixels, from 1 to W.
      threshold: above which a pixel is of what is drawn.

    Returns: `[H, W, C]`; bilinear, and antialiased where it shrinks.

    Raises: TypeError for integers, UserError for a width that the image does not have.

    Reference: Ciresan, Meier, Schmidhuber 2012, "Multi-column deep neural networks for image
    classification", section 3.1: columns for digits of 10 to 20 pixels. Differs: the authors do not
    say how pixels are interpolated.

    >>> normalize_width(jnp.array([0.0, 0.0, 0.0, 1.0]).reshape(1, 4, 1), 2).ravel().tolist()
    [0.0, 1.0, 1.0, 0.0]
    """
    require_floats(image, "normalize_width")
    _, size, _ = image.shape
    if not 1 <= operator.index(width) <= size:
        raise UserError(f"a width from 1 to {size} pixels is possible, came {width}")
    drawn = (image > threshold).any((0, 2))
    left, right = jnp.argmax(drawn), size - jnp.argmax(drawn[::-1])
    before = (size - width) // 2
    columns = resizing_matrix(left, right, width, size)
    columns = jnp.pad(columns, ((before, size - width - before), (0, 0))).astype(image.dtype)
    result = jnp.einsum("jw,hwc->hjc", columns, image, precision=lax.Precision.HIGHEST)
    return jnp.where(drawn.any(), jnp.clip(result, 0, 1), image)
