"""Augmentation by a few operations out of many: RandAugment."""

import jax
import jax.numpy as jnp
from jax import lax

from .color import anchors, blend
from .requirements import require_between, require_not_negative
from .warping import affine_displacement, affine_matrix, warp

OPERATIONS = (
    *("identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate"),
    *("brightness", "contrast", "color", "sharpness"),
    *("posterize", "solarize", "autocontrast", "equalize"),
)
GEOMETRIC, BLENDING = OPERATIONS[:6], OPERATIONS[6:10]
LARGEST = 30  # magnitude


def random_augment(key, image, *, operations=2, magnitude=9):
    """RandAugment: a few operations after each other, each any of fourteen with equal probability.

    They are identity, shear and translation along each axis, rotation (bilinear, filled with
    zeros), brightness, contrast, color, sharpness, posterize, solarize, autocontrast and equalize.
    All of one image have the same magnitude; to which side an operation goes is drawn.

    Args:
      key: of this image.
      image: `[H, W, C]`, floats in [0, 1].
      operations: how many.
      magnitude: of each, from 0 to 30: a shear up to 0.3, a translation up to 150/331 of the side,
        a rotation up to 30 degrees, factors 0.9 away from 1, 4 bits left, all values solarized.

    Returns: `[H, W, C]`.

    Raises: ValueError for an option out of its range.

    Reference: Cubuk et al. 2019, "RandAugment: practical automated data augmentation with a reduced
    search space", section 3; ranges and definitions are those of torchvision's `RandAugment`.
    Differs: an operation chosen by each example for itself would have all of them computed
    (`lax.switch` is a selection under `vmap`), so the geometric ones share a single warp and those
    that blend a single blend, and only what is left is computed for nothing. Floats are rounded to
    256 levels only where an operation is made of levels: posterize and equalize. Geometric
    operations are bilinear, turn and shear about the center, and shift by fractions of pixels,
    where torchvision reads the nearest pixel and shifts by whole ones.

    >>> random_augment(jax.random.key(0), jnp.ones((32, 32, 3)), operations=1).shape
    (32, 32, 3)
    """
    require_between(0, LARGEST, magnitude=magnitude)
    require_not_negative(operations=operations)
    for which, side in jax.random.uniform(key, (operations, 2)):
        chosen, sign = jnp.int32(len(OPERATIONS) * which), jnp.where(side < 0.5, -1.0, 1.0)
        image = apply_operation(image, chosen, magnitude / LARGEST, sign)
    return image


def apply_operation(image, chosen, strength, sign=1.0):
    """One of `OPERATIONS` applied to an image.

    Args:
      image: `[H, W, C]`, floats in [0, 1].
      chosen: its number, an integer of the host or the device.
      strength: share of the largest magnitude, in [0, 1], of the host.
      sign: 1 or -1, for those that go to either side.

    Returns: `[H, W, C]`.

    >>> apply_operation(jnp.array([[[0.25], [0.75]]]), 11, 0.5).ravel().tolist()
    [0.25, 0.25]
    """
    image = warp(image, _displacement(chosen, strength * sign, *image.shape[:2]))
    number = jnp.clip(chosen - len(GEOMETRIC), 0, len(BLENDING) - 1)
    anchor = jnp.concatenate([anchors(image), _soften(image)[None]])[number]
    results = (
        image,
        blend(image, anchor, 1 + 0.9 * strength * sign),
        _posterize(image, 8 - round(4 * strength)),
        jnp.where(image >= 1 - strength, 1 - image, image),
        _stretch_contrast(image),
        _equalize(image),
    )
    others = len(GEOMETRIC) + len(BLENDING)
    number = jnp.where(chosen < len(GEOMETRIC), 0, jnp.maximum(1, chosen - others + 2))
    return lax.select_n(number, *results)


def _displacement(chosen, amount, height, width):
    """Of the geometric operation that is chosen, zero for any other."""

    def amount_of(name, largest):
        return jnp.where(chosen == OPERATIONS.index(name), largest * amount, 0.0)

    matrix = affine_matrix(amount_of("rotate", 30))
    slant = jnp.array([[0.0, 1.0], [0.0, 0.0]]) * amount_of("shear_y", 0.3)
    slant += jnp.array([[0.0, 0.0], [1.0, 0.0]]) * amount_of("shear_x", 0.3)
    down = amount_of("translate_y", 150 / 331 * height)
    right = amount_of("translate_x", 150 / 331 * width)
    return affine_displacement(matrix - slant, (down, right), height, width)


def _soften(image):
    """The mean of nine pixels with five times the weight on the one in the middle; the border stays
    as it is. What sharpness blends with, as in Pillow."""
    height, width, _ = image.shape
    if min(height, width) < 3:
        return image
    across = image[:, :-2] + image[:, 1:-1] + image[:, 2:]
    total = across[:-2] + across[1:-1] + across[2:]
    inner = (total + 4 * image[1:-1, 1:-1]) / 13
    return lax.dynamic_update_slice(image, inner, (1, 1, 0))


def _posterize(image, bits):
    step = 2 ** (8 - bits)
    return jnp.floor(jnp.round(255 * image) / step) * step / 255


def _stretch_contrast(image):
    """Every channel from its smallest value to its largest, brought to 0 to 1."""
    low, high = image.min((0, 1), keepdims=True), image.max((0, 1), keepdims=True)
    flat = low == high
    return jnp.where(flat, image, (image - low) / jnp.where(flat, 1, high - low))


def _equalize(image):
    """Every channel with its 256 levels about equally frequent, as in Pillow."""
    levels = jnp.round(255 * image).astype(jnp.int32)
    channels = [_equalize_channel(levels[..., i]) for i in range(image.shape[-1])]
    return jnp.stack(channels, -1).astype(image.dtype)


def _equalize_channel(levels):
    counts = jnp.bincount(levels.ravel(), length=256)
    last = counts[levels.max()]
    step = (levels.size - last) // 255
    below = jnp.cumsum(counts) - counts
    table = jnp.clip((below + step // 2) // jnp.maximum(step, 1), 0, 255)
    return jnp.where(step == 0, levels, table[levels]).astype(jnp.float32) / 255
