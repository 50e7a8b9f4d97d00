"""Geometric warping of images: values read between the pixels.

A displacement `[2, H, W]` says for each pixel how many rows and columns away its value is read.
Displacements add up, so that several distortions together cost one reading and one loss of
sharpness: `warp(image, elastic_displacement(…) + affine_displacement(…))`.
"""

import jax.numpy as jnp

from .convolution import require_floats


def sample_bilinear(image, rows, columns):
    """Values of an image at fractional places, from the four pixels around each.

    Args:
      image: `[H, W, C]`, floats.
      rows, columns: `[…]`, floats in pixels; pixel centers lie at 0, 1, …. The image is
        surrounded by zeros, and fades into them within one pixel.

    Returns: `[…, C]` in the dtype of the image.

    Raises: TypeError for an image of integers.

    >>> sample_bilinear(jnp.arange(4.0).reshape(2, 2, 1), jnp.array([0.5]), jnp.array([0.5]))
    Array([[1.5]], dtype=float32)
    """
    require_floats(image, "sample_bilinear")
    height, width, channels = image.shape
    framed = jnp.pad(image, ((1, 1), (1, 1), (0, 0))).reshape(-1, channels)
    # Places, not indices, are kept in the frame: the four pixels then differ by constants.
    rows, columns = jnp.clip(rows, -1, height), jnp.clip(columns, -1, width)
    top = jnp.minimum(jnp.floor(rows), height - 1)
    left = jnp.minimum(jnp.floor(columns), width - 1)
    below = (rows - top)[..., None].astype(image.dtype)  # the share of the pixel below
    right = (columns - left)[..., None].astype(image.dtype)
    corner = (top.astype(jnp.int32) + 1) * (width + 2) + left.astype(jnp.int32) + 1

    def read(offset):
        return framed.at[corner + offset].get(mode="promise_in_bounds")

    upper = (1 - right) * read(0) + right * read(1)
    lower = (1 - right) * read(width + 2) + right * read(width + 3)
    return (1 - below) * upper + below * lower


def warp(image, displacement):
    """The image whose every pixel is read elsewhere, bilinear and filled with zeros.

    Args:
      image: `[H, W, C]`, floats.
      displacement: `[2, H, W]` in pixels: rows down and columns to the right of the pixel's own.

    Returns: `[H, W, C]`.

    >>> to_the_right = jnp.stack([jnp.zeros((1, 3)), jnp.full((1, 3), 0.5)])
    >>> warp(jnp.arange(3.0).reshape(1, 3, 1), to_the_right).ravel().tolist()
    [0.5, 1.5, 1.0]
    """
    height, width, _ = image.shape
    rows = jnp.arange(height, dtype=displacement.dtype)[:, None] + displacement[0]
    columns = jnp.arange(width, dtype=displacement.dtype)[None, :] + displacement[1]
    return sample_bilinear(image, rows, columns)


def affine_matrix(degrees=0.0, scale=(1.0, 1.0), shear=0.0):
    """The matrix `[2, 2]` by which `affine_displacement` reads an image that is scaled, sheared and
    turned, in this order. It acts on (row, column), and is the inverse of what the image does.

    Args:
      degrees: of the turn, counter-clockwise as it is seen.
      scale: factors of height and width.
      shear: columns to the right for each row further down.

    >>> abs(affine_matrix(scale=(2.0, 4.0))).tolist()
    [[0.5, 0.0], [0.0, 0.25]]
    """
    angle = jnp.deg2rad(jnp.asarray(degrees, float))  # float64 where JAX has that
    cosine, sine = jnp.cos(angle), jnp.sin(angle)
    for_row = jnp.stack([cosine, sine]) / scale[0]
    for_column = jnp.stack([-sine - shear * cosine, cosine - shear * sine]) / scale[1]
    return jnp.stack([for_row, for_column])


def affine_displacement(matrix, shift, height, width):
    """The displacement that reads an image through a matrix about its center, moved by a shift.

    Args:
      matrix: `[2, 2]`; the pixel at `p` is read at `matrix (p - center - shift) + center`.
      shift: of the image, in pixels down and to the right.
      height, width: of the image.

    Returns: `[2, H, W]`, float32, or float64 of a matrix of that.

    >>> affine_displacement(jnp.eye(2), (0.0, 1.0), 1, 3).tolist()
    [[[0.0, 0.0, 0.0]], [[-1.0, -1.0, -1.0]]]
    """
    matrix = jnp.asarray(matrix)
    down = jnp.arange(height, dtype=matrix.dtype)[:, None] - (height - 1) / 2
    along = jnp.arange(width, dtype=matrix.dtype)[None, :] - (width - 1) / 2
    y, x = down - shift[0], along - shift[1]
    rows = matrix[0][0] * y + matrix[0][1] * x - down
    columns = matrix[1][0] * y + matrix[1][1] * x - along
    return jnp.stack([rows, columns])


def rotate_image(image, degrees):
    """An image `[H, W, C]` turned about its center, counter-clockwise as it is seen, and filled
    with zeros; bilinear, in the same size.

    >>> rotate_image(jnp.arange(4.0).reshape(2, 2, 1), 90.0)[..., 0].round().tolist()
    [[1.0, 3.0], [0.0, 2.0]]
    """
    height, width, _ = image.shape
    return warp(image, affine_displacement(affine_matrix(degrees), (0, 0), height, width))
