"""Random geometric distortions: rotation, affine, elastic, and the last two in one reading."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from .requirements import require_not_negative, require_range
from .warping import affine_displacement, affine_matrix, rotate_image, warp


def rotate(key, image, *, max_degrees=10.0):
    """The image `[H, W, C]` turned about its center by an angle uniform in `±max_degrees`,
    bilinear and filled with zeros.

    >>> rotate(jax.random.key(0), jnp.ones((28, 28, 1))).shape
    (28, 28, 1)
    """
    require_not_negative(max_degrees=max_degrees)
    degrees = jax.random.uniform(key, (), minval=-max_degrees, maxval=max_degrees)
    return rotate_image(image, degrees)


def affine(key, image, *, max_shift=2, max_degrees=10.0, scale=(0.85, 1.15), max_shear=0.1):
    """The image scaled, sheared and turned about its center, and shifted: one reading, bilinear and
    filled with zeros.

    Args:
      key: of this image.
      image: `[H, W, C]`, floats.
      max_shift: in pixels, a number or one for each of H and W; shifts are fractions of pixels too.
      max_degrees: of the turn to either side.
      scale: smallest and largest factor, drawn for height and width apart.
      max_shear: columns to either side for each row.

    Every quantity is uniform in its range.

    Returns: `[H, W, C]`.

    Raises: ValueError for negative options and for scales that are not positive.

    >>> affine(jax.random.key(0), jnp.ones((28, 28, 1)), max_degrees=15.0).shape
    (28, 28, 1)
    """
    options = (max_shift, max_degrees, scale, max_shear)
    return warp(image, _draw_affine(key, *image.shape[:2], *options))


def elastic(key, image, *, alpha=34.0, sigma=4.0):
    """The image distorted elastically, bilinear and filled with zeros.

    Args:
      key: of this image.
      image: `[H, W, C]`, floats.
      alpha, sigma: strength and smoothness of the displacement, see `elastic_displacement`.

    Returns: `[H, W, C]`.

    Reference: Simard, Steinkraus, Platt 2003, "Best practices for convolutional neural networks
    applied to visual document analysis", section 2, with their alpha and sigma for MNIST.

    >>> elastic(jax.random.key(0), jnp.ones((28, 28, 1))).shape
    (28, 28, 1)
    """
    return warp(image, elastic_displacement(key, *image.shape[:2], alpha=alpha, sigma=sigma))


def elastic_affine(
    key,
    image,
    *,
    alpha=34.0,
    sigma=4.0,
    max_shift=2,
    max_degrees=10.0,
    scale=(0.85, 1.15),
    max_shear=0.1,
):
    """`elastic` and `affine` in one reading: their displacements are added.

    Faster than one after the other, and the image is smoothed between its pixels once.

    Reference: Ciresan, Meier, Gambardella, Schmidhuber 2010, "Deep, big, simple neural nets for
    handwritten digit recognition", section 3, where both are combined for MNIST.

    >>> elastic_affine(jax.random.key(0), jnp.ones((28, 28, 1)), alpha=20.0).shape
    (28, 28, 1)
    """
    height, width, _ = image.shape
    for_elastic, for_affine = jax.random.split(key)
    displacement = elastic_displacement(for_elastic, height, width, alpha=alpha, sigma=sigma)
    options = (max_shift, max_degrees, scale, max_shear)
    return warp(image, displacement + _draw_affine(for_affine, height, width, *options))


def elastic_displacement(key, height, width, *, alpha=34.0, sigma=4.0):
    """A smooth random displacement of every pixel.

    Rows and columns are moved by `alpha` times a random field, smoothed by a Gaussian: the field's
    values are independent and uniform in (-1, 1), the Gaussian has the deviation `sigma`, sums to
    one, and sees zeros outside of the image. So away from the border a pixel moves by `alpha /
    (sigma sqrt(12 pi))` pixels on each axis, as root mean square: 1.4 with the defaults.

    Args:
      key: of this image.
      height, width: of the image.
      alpha: not negative, in pixels.
      sigma: not negative, in pixels; 0 does not smooth.

    Returns: `[2, H, W]`, float32, in pixels.

    Raises: ValueError for a negative alpha or sigma.

    Reference: Simard et al. 2003, section 2. Differs: the values are of 16 bits, two of them made
    of one random word, which is drawn in half the time.

    >>> elastic_displacement(jax.random.key(0), 28, 28).shape
    (2, 28, 28)
    """
    require_not_negative(alpha=alpha, sigma=sigma)
    bits = jax.random.bits(key, (height, width), jnp.uint32)
    halves = jnp.stack([bits >> 16, bits & 0xFFFF]).astype(jnp.int32).astype(jnp.float32)
    return alpha * smooth((halves + 0.5) / 2**15 - 1, sigma)


def smooth(x, sigma):
    """Smoothed by a Gaussian that sums to one, with zeros outside, over the last two axes.

    Two products with matrices, which are faster on a CPU than a convolution of each image.

    Args:
      x: `[…, H, W]`, floats.
      sigma: deviation in pixels, cut off at four of them; 0 leaves `x` as it is.

    >>> round(smooth(jnp.eye(1), 1.0).item(), 3)  # 1 / (2 pi)
    0.159
    """
    rows, columns = (_gaussian_matrix(count, sigma, x.dtype) for count in x.shape[-2:])
    return jnp.einsum("ij,...jk,lk->...il", rows, x, columns, precision=lax.Precision.HIGHEST)


def _gaussian_matrix(count, sigma, dtype):
    radius = int(4 * sigma + 0.5)
    if radius == 0:
        return jnp.eye(count, dtype=dtype)
    taps = jnp.exp(-0.5 * jnp.square(jnp.arange(-radius, radius + 1) / sigma))
    place = jnp.arange(count)
    offset = place[:, None] - place[None, :] + radius
    matrix = jnp.where((offset >= 0) & (offset <= 2 * radius), taps.at[offset].get(), 0)
    return (matrix / taps.sum()).astype(dtype)


def _draw_affine(key, height, width, max_shift, max_degrees, scale, max_shear):
    """The displacement of one affine distortion, drawn as `affine` says."""
    # Not `as_pair`, which is of whole pixels: a shift may be a fraction of one.
    shifts = tuple(max_shift) if isinstance(max_shift, Sequence) else (max_shift, max_shift)
    if len(shifts) != 2:
        raise ValueError(f"max_shift is a number or one for each of H and W, came {max_shift}")
    for shift in shifts:
        require_not_negative(max_shift=shift)
    require_not_negative(max_degrees=max_degrees, max_shear=max_shear)
    require_range(0, math.inf, scale=scale)
    draws = jax.random.uniform(key, (6,), minval=-1, maxval=1)
    middle, spread = (scale[1] + scale[0]) / 2, (scale[1] - scale[0]) / 2
    scales = middle + spread * draws[3], middle + spread * draws[4]
    matrix = affine_matrix(max_degrees * draws[2], scales, max_shear * draws[5])
    return affine_displacement(matrix, (shifts[0] * draws[0], shifts[1] * draws[1]), height, width)
