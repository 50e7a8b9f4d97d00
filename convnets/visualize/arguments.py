"""What all of this room is given, looked at before anything is computed."""

import jax
import numpy as np

from ..errors import UserError
from ..ops.image import Normalization

BRIGHTEST = 8.0  # of floats: noise and stimuli leave [0, 1], bytes that nobody scaled go to 255


def require_images(images, normalization=None):
    """The images as an array `[B, H, W, C]`, not empty, finite, and of [0, 1] where they are floats
    that are still to be normalized."""
    images = images if isinstance(images, jax.Array) else np.asarray(images)
    if images.ndim != 4:
        raise UserError(f"expected images [B, H, W, C], came shape {images.shape}")
    if not len(images):
        raise UserError("there are no images")
    if normalization is not None and not isinstance(normalization, Normalization):
        raise UserError(
            f"normalization is a convnets.Normalization, as dataset.normalization, not "
            f"{type(normalization).__name__} {normalization!r:.60}"
        )
    if images.dtype.kind == "f":
        require_range("images", images, normalization)
    elif images.dtype not in (np.uint8, np.uint16):
        raise UserError(f"images are uint8, uint16 or floats in [0, 1], came {images.dtype}")
    return images


def require_range(name, values, normalization):
    """Refuses what is not finite, and bytes among floats that are still to be normalized."""
    largest = float(np.abs(np.asarray(values, np.float32)).max())
    if not np.isfinite(largest):
        raise UserError(f"{name} have values that are not finite")
    if normalization is not None and largest > BRIGHTEST:
        raise UserError(
            f"{name} are floats up to {largest:.4g}; those to be normalized are in [0, 1]: divide "
            "bytes by 255, or leave them uint8"
        )


def require_source(source):
    """A split of a data set, which is read by the batch."""
    if not hasattr(source, "image_shape") or not hasattr(source, "batch"):
        raise UserError(
            f"expected a source of images, such as dataset.test, came a {type(source).__name__}"
        )
    if not len(source):
        raise UserError("there are no images in the source")
    return source
