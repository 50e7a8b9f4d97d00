"""Images on the device: bytes to floats, and augmentations as `f(key, image)`.

The names are gathered here: whatever is done to an image is reached as `image.NAME`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from . import collective
from .color import adjust_hue, color_jitter, pca_noise
from .convolution import as_pair
from .cropping import random_erasing, random_resized_crop
from .distortion import (
    affine,
    elastic,
    elastic_affine,
    elastic_displacement,
    rotate,
    smooth,
)
from .mixing import MIXES, cutmix, mix_neighbors, mixup, swap_neighbors
from .policies import random_augment
from .requirements import require_between, require_not_negative
from .resizing import normalize_width, resize_part
from .views import VIEWS, flip_views, shift_views, ten_crop
from .warping import affine_displacement, affine_matrix, rotate_image, sample_bilinear, warp


class Normalization(NamedTuple):
    """Mean and standard deviation of each channel, in units of [0, 1]; `(x - mean) / std`."""

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)


def prepare(images, normalization=None, augment=None, key=None):
    """Images as the network wants them.

    Args:
      images: `[B, H, W, C]`, uint8 or uint16 (scaled to [0, 1]), or floats in [0, 1] already.
      normalization: a `Normalization`, or None to stay in [0, 1].
      augment: `f(key, image) -> image` on one float image `[H, W, C]` in [0, 1], or None.
      key: the key of the whole batch; needed with `augment`. Every example draws with its own key,
        folded with its position in the whole batch.

    Returns: float32 `[B, H, W, C]`.

    Raises: TypeError for other integers, ValueError for another number of channels.

    >>> prepare(jnp.full((1, 2, 2, 1), 255, jnp.uint8), Normalization((0.5,), (0.25,))).max().item()
    2.0
    """
    images = to_float(images)
    if augment is not None:
        if key is None:
            raise ValueError("an augmentation draws at random: give prepare a key")
        keys = collective.example_keys(key, images.shape[0])
        images = jax.vmap(augment)(keys, images)
    return normalize(images, normalization)


def normalize(images, normalization):
    """Float images `[B, H, W, C]` by a `Normalization`; None leaves them as they are.

    Raises: ValueError for another number of channels.

    >>> normalize(jnp.full((1, 2, 2, 1), 0.75), Normalization((0.5,), (0.25,))).max().item()
    1.0
    """
    if normalization is None:
        return images
    channels = {images.shape[-1], 1}
    if not {len(normalization.mean), len(normalization.std)} <= channels:
        raise ValueError(
            f"images of {images.shape[-1]} channels do not fit a normalization of "
            f"{len(normalization.mean)}"
        )
    mean, std = (jnp.asarray(x, jnp.float32).reshape(1, 1, 1, -1) for x in normalization)
    return (images - mean) / std


def to_float(images):
    """uint8 or uint16 images as float32 in [0, 1]; floats as they are, in float32."""
    images = jnp.asarray(images)
    if images.dtype in (jnp.uint8, jnp.uint16):
        return images.astype(jnp.float32) / jnp.iinfo(images.dtype).max
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise TypeError(f"images are uint8, uint16 or floats in [0, 1], not {images.dtype}")
    return images.astype(jnp.float32)


def flip_horizontal(key, image, *, probability=0.5):
    """The image `[H, W, C]`, or with the given probability its mirror image.

    >>> image = jnp.arange(2.0).reshape(1, 2, 1)
    >>> flip_horizontal(jax.random.key(0), image, probability=1.0).ravel().tolist()
    [1.0, 0.0]
    """
    require_between(0, 1, probability=probability)
    return jnp.where(jax.random.bernoulli(key, probability), image[:, ::-1], image)


def flip_vertical(key, image, *, probability=0.5):
    """The image `[H, W, C]`, or with the given probability upside down.

    >>> image = jnp.arange(2.0).reshape(2, 1, 1)
    >>> flip_vertical(jax.random.key(0), image, probability=1.0).ravel().tolist()
    [1.0, 0.0]
    """
    require_between(0, 1, probability=probability)
    return jnp.where(jax.random.bernoulli(key, probability), image[::-1], image)


def translate(key, image, *, max_shift=2):
    """The image `[H, W, C]` shifted by whole pixels and filled with zeros.

    `max_shift`: the largest shift in pixels, an int or one for each of H and W; every whole shift
    from `-max_shift` to `max_shift` is equally likely on each axis.

    >>> translate(jax.random.key(0), jnp.ones((28, 28, 1)), max_shift=3).shape
    (28, 28, 1)
    """
    rows, columns = as_pair(max_shift)
    require_not_negative(max_shift=min(rows, columns))
    framed = jnp.pad(image, ((rows, rows), (columns, columns), (0, 0)))
    row_key, column_key = jax.random.split(key)
    top = jax.random.randint(row_key, (), 0, 2 * rows + 1)
    left = jax.random.randint(column_key, (), 0, 2 * columns + 1)
    return lax.dynamic_slice(framed, (top, left, 0), image.shape)


def random_crop_with_padding(key, image, *, padding=4):
    """A random crop, of the image's own size, of the image `[H, W, C]` in a frame of zeros.

    The same as `translate` by at most `padding` pixels, under the name it goes by for CIFAR.

    Reference: He et al. 2015, "Deep residual learning", section 4.2, with padding 4.

    >>> random_crop_with_padding(jax.random.key(0), jnp.ones((32, 32, 3))).shape
    (32, 32, 3)
    """
    return translate(key, image, max_shift=padding)


def compose(*functions):
    """One augmentation out of several, applied in the order given, each with its own key.

    >>> augment = compose(flip_horizontal, translate)
    >>> augment(jax.random.key(0), jnp.ones((8, 8, 1))).shape
    (8, 8, 1)
    """

    def augment(key, image):
        for position, function in enumerate(functions):
            image = function(jax.random.fold_in(key, position), image)
        return image

    return augment


AUGMENTATIONS = {
    "affine": affine,
    "color_jitter": color_jitter,
    "crop": random_crop_with_padding,
    "elastic": elastic,
    "elastic_affine": elastic_affine,
    "erase": random_erasing,
    "flip": flip_horizontal,
    "flip_vertical": flip_vertical,
    "pca_noise": pca_noise,
    "random_augment": random_augment,
    "rotate": rotate,
    "translate": translate,
}

__all__ = [
    "AUGMENTATIONS",
    "MIXES",
    "VIEWS",
    "Normalization",
    "adjust_hue",
    "affine",
    "affine_displacement",
    "affine_matrix",
    "color_jitter",
    "compose",
    "cutmix",
    "elastic",
    "elastic_affine",
    "elastic_displacement",
    "flip_horizontal",
    "flip_vertical",
    "flip_views",
    "mix_neighbors",
    "mixup",
    "normalize",
    "normalize_width",
    "pca_noise",
    "prepare",
    "random_augment",
    "random_crop_with_padding",
    "random_erasing",
    "random_resized_crop",
    "resize_part",
    "rotate",
    "rotate_image",
    "sample_bilinear",
    "shift_views",
    "smooth",
    "swap_neighbors",
    "ten_crop",
    "to_float",
    "translate",
    "warp",
]
