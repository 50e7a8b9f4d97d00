"""Random parts of images, of a random area and aspect, on the device."""

import math

import jax
import jax.numpy as jnp

from .convolution import as_pair, require_floats
from .requirements import require_between, require_positive, require_range
from .resizing import resize_part

ATTEMPTS = 10  # draws of an area and an aspect


def random_resized_crop(key, image, *, size, area=(0.08, 1.0), aspect=(3 / 4, 4 / 3)):
    """A random part of the image, brought to a size; bilinear, and antialiased where it shrinks.

    The part's share of the area is uniform, and so is the logarithm of its width over its height;
    it lies anywhere with equal probability. Where ten draws do not fit into the image, it is the
    largest part in the center of an aspect allowed.

    Args:
      key: of this image.
      image: `[H, W, C]`, floats in [0, 1].
      size: of the result, an int or one for each of H and W.
      area: smallest and largest share of the image's area, in (0, 1].
      aspect: smallest and largest width over height.

    Returns: `[*size, C]`.

    Raises: ValueError for an impossible area, aspect or size, TypeError for integers.

    Reference: Szegedy et al. 2014, "Going deeper with convolutions", section 6, as torchvision's
    `RandomResizedCrop` does it.

    >>> random_resized_crop(jax.random.key(0), jnp.ones((40, 50, 3)), size=32).shape
    (32, 32, 3)
    """
    require_floats(image, "random_resized_crop")
    require_positive(size=min(as_pair(size)))
    height, width, _ = image.shape
    draws = jax.random.uniform(key, (ATTEMPTS, 4))
    (top, left, bottom, right), fits = draw_part(draws, height, width, area=area, aspect=aspect)
    rows = max(1, min(height, round(width / aspect[0])))
    columns = max(1, min(width, round(height * aspect[1])))
    y0, x0 = (height - rows) // 2, (width - columns) // 2
    center = (y0, x0, y0 + rows, x0 + columns)
    box = [jnp.where(fits, a, b) for a, b in zip((top, left, bottom, right), center)]
    return jnp.clip(resize_part(image, box, *as_pair(size)), 0, 1)


def draw_part(draws, height, width, *, area, aspect):
    """The first of several random parts that fits into an image.

    Args:
      draws: `[N, 4]`, uniform in [0, 1): for the area, the aspect, the row and the column.
      height, width: of the image.
      area: smallest and largest share of the image's area.
      aspect: smallest and largest width over height; its logarithm is uniform.

    Returns: `(y0, x0, y1, x1)`, int32, and whether any part fits.

    Raises: ValueError for an impossible area or aspect.

    >>> box, fits = draw_part(jnp.full((1, 4), 0.5), 20, 20, area=(0.25, 0.25), aspect=(1, 1))
    >>> [int(side) for side in box], bool(fits)
    ([5, 5, 15, 15], True)
    """
    require_range(0, 1, area=area)
    require_range(0, math.inf, aspect=aspect)
    low, high = math.log(aspect[0]), math.log(aspect[1])
    pixels = height * width * (area[0] + (area[1] - area[0]) * draws[:, 0])
    ratio = jnp.exp(low + (high - low) * draws[:, 1])
    rows, columns = jnp.round(jnp.sqrt(pixels / ratio)), jnp.round(jnp.sqrt(pixels * ratio))
    fits = (rows > 0) & (rows <= height) & (columns > 0) & (columns <= width)
    first = jnp.argmax(fits)
    rows, columns = rows[first], columns[first]
    top = jnp.floor(draws[first, 2] * (height - rows + 1))
    left = jnp.floor(draws[first, 3] * (width - columns + 1))
    box = [x.astype(jnp.int32) for x in (top, left, top + rows, left + columns)]
    return box, fits.any()


def random_erasing(
    key, image, *, probability=0.5, area=(0.02, 0.4), aspect=(0.3, 1 / 0.3), fill=None
):
    """The image with a random rectangle painted over.

    Args:
      key: of this image.
      image: `[H, W, C]`, floats in [0, 1].
      probability: of painting at all.
      area: smallest and largest share of the image's area, in (0, 1].
      aspect: smallest and largest width over height.
      fill: a value in [0, 1], or None for another random one for each pixel and channel.

    Returns: `[H, W, C]`.

    Raises: ValueError for an option out of its range, TypeError for integers.

    Reference: Zhong et al. 2017, "Random erasing data augmentation", algorithm 1. Differs: the
    logarithm of the aspect is uniform, so that tall and wide are equally likely; after ten
    rectangles that do not fit into the image it stays whole.

    >>> random_erasing(jax.random.key(0), jnp.ones((8, 8, 3)), probability=1.0, fill=0.0).min()
    Array(0., dtype=float32)
    """
    require_between(0, 1, probability=probability, fill=0 if fill is None else fill)
    require_floats(image, "random_erasing")
    height, width, _ = image.shape
    where, what = jax.random.split(key)
    draws = jax.random.uniform(where, (1 + ATTEMPTS, 4))
    box, fits = draw_part(draws[1:], height, width, area=area, aspect=aspect)
    painted = fits & (draws[0, 0] < probability)
    if fill is None:
        fill = jax.random.uniform(what, image.shape, image.dtype)
    return jnp.where(painted & rectangle(box, height, width), fill, image)


def rectangle(box, height, width):
    """True inside of a box `(y0, x0, y1, x1)` of pixels: booleans `[H, W, 1]`.

    >>> rectangle((0, 1, 1, 3), 2, 3)[..., 0].tolist()
    [[False, True, True], [False, False, False]]
    """
    top, left, bottom, right = box
    row, column = jnp.arange(height)[:, None, None], jnp.arange(width)[None, :, None]
    return (row >= top) & (row < bottom) & (column >= left) & (column < right)
