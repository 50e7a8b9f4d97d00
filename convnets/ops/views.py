"""Several views of each image, over which a prediction is averaged."""

import jax.numpy as jnp

from ..errors import UserError
from .convolution import as_pair, require_batch
from .requirements import require_not_negative


def flip_views(images):
    """The images `[B, H, W, C]` and their mirror images: `[2, B, H, W, C]`.

    Raises: UserError for one image alone.

    >>> flip_views(jnp.arange(2.0).reshape(1, 1, 2, 1)).reshape(2, 2).tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    require_batch(images, "flip_views")
    return jnp.stack([images, images[:, :, ::-1]])


def shift_views(images, pixels: int = 1):
    """The images `[B, H, W, C]`, and moved up, down, to the left and to the right by some pixels,
    with the border repeated where they leave it: `[5, B, H, W, C]`.

    Raises: ValueError for fewer pixels than none, UserError for one image alone.

    >>> shift_views(jnp.arange(3.0).reshape(1, 1, 3, 1))[3:].reshape(2, 3).tolist()
    [[1.0, 2.0, 2.0], [0.0, 0.0, 1.0]]
    """
    require_not_negative(pixels=pixels)
    require_batch(images, "shift_views")
    height, width = images.shape[1:3]
    framed = jnp.pad(images, ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0)), mode="edge")
    far = 2 * pixels
    corners = ((pixels, pixels), (far, pixels), (0, pixels), (pixels, far), (pixels, 0))
    return jnp.stack([framed[:, y : y + height, x : x + width] for y, x in corners])


def ten_crop(images, size):
    """Five parts of each image, four corners and the center, and their mirror images.

    Args:
      images: `[B, H, W, C]`.
      size: of a part, an int or one for each of H and W.

    Returns: `[10, B, *size, C]`: top left, top right, bottom left, bottom right, center; then these
    mirrored.

    Raises: UserError for parts larger than the images, and for one image alone.

    Reference: Krizhevsky, Sutskever, Hinton 2012, "ImageNet classification with deep convolutional
    neural networks", section 4.1: parts of 224x224 pixels out of 256x256.

    >>> ten_crop(jnp.zeros((2, 256, 256, 3)), 224).shape
    (10, 2, 224, 224, 3)
    """
    require_batch(images, "ten_crop")
    rows, columns = as_pair(size)
    bottom, right = images.shape[1] - rows, images.shape[2] - columns
    if min(bottom, right) < 0 or min(rows, columns) < 1:
        raise UserError(
            f"parts of {rows}x{columns} pixels do not fit into images of "
            f"{images.shape[1]}x{images.shape[2]}"
        )
    corners = [(0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2)]
    parts = jnp.stack([images[:, y : y + rows, x : x + columns] for y, x in corners])
    return jnp.concatenate([parts, parts[:, :, :, ::-1]])


VIEWS = {"flip": flip_views, "shift": shift_views}
