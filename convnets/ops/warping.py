"""Geometric warping of images: values read between the pixels."""

import jax.numpy as jnp


def sample_bilinear(image, rows, columns):
    """Values of an image at fractional places, from the four pixels around each.

    Args:
      image: `[H, W, C]`, floats.
      rows, columns: `[…]`, floats in pixels; pixel centers lie at 0, 1, …. The image is
        surrounded by zeros, and fades into them within one pixel.

    Returns: `[…, C]` in the dtype of the image.

    >>> sample_bilinear(jnp.arange(4.0).reshape(2, 2, 1), jnp.array([0.5]), jnp.array([0.5]))
    Array([[1.5]], dtype=float32)
    """
    height, width, channels = image.shape
    framed = jnp.pad(image, ((1, 1), (1, 1), (0, 0))).reshape(-1, channels)
    top, left = jnp.floor(rows), jnp.floor(columns)
    below = (rows - top)[..., None].astype(image.dtype)  # the share of the pixel below
    right = (columns - left)[..., None].astype(image.dtype)

    def read(row, column):
        row = jnp.clip(row + 1, 0, height + 1).astype(jnp.int32)
        column = jnp.clip(column + 1, 0, width + 1).astype(jnp.int32)
        return framed.at[row * (width + 2) + column].get(mode="promise_in_bounds")

    upper = (1 - right) * read(top, left) + right * read(top, left + 1)
    lower = (1 - right) * read(top + 1, left) + right * read(top + 1, left + 1)
    return (1 - below) * upper + below * lower


def rotate_image(image, degrees):
    """An image `[H, W, C]` turned about its center, counter-clockwise as it is seen, and filled
    with zeros; bilinear, in the same size.

    >>> rotate_image(jnp.arange(4.0).reshape(2, 2, 1), 90.0)[..., 0].round().tolist()
    [[1.0, 3.0], [0.0, 2.0]]
    """
    height, width, _ = image.shape
    angle = jnp.deg2rad(jnp.asarray(degrees, jnp.promote_types(image.dtype, jnp.float32)))
    cosine, sine = jnp.cos(angle), jnp.sin(angle)
    middle_row, middle_column = (height - 1) / 2, (width - 1) / 2
    y = jnp.arange(height, dtype=angle.dtype)[:, None] - middle_row
    x = jnp.arange(width, dtype=angle.dtype)[None, :] - middle_column
    rows = cosine * y + sine * x + middle_row
    columns = cosine * x - sine * y + middle_column
    return sample_bilinear(image, rows, columns)
