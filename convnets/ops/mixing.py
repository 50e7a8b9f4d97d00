"""Two examples made one: Mixup and CutMix, with the next example of the batch as partner.

A mix is `f(key, image, partner) -> (image, share)` on float images `[H, W, C]`; `share`, in [0, 1],
is the weight of the image's own label, and what is left that of its partner's.
"""

import jax
import jax.numpy as jnp

from ..errors import UserError
from . import collective
from .convolution import require_floats
from .cropping import rectangle
from .requirements import require_positive, require_same_shape


def mixup(key, image, partner, *, alpha=0.2):
    """`share image + (1 - share) partner`, with the share drawn from Beta(alpha, alpha).

    Raises: ValueError for an alpha that is not positive, TypeError for integers, UserError for a
    partner of another shape.

    Reference: Zhang et al. 2018, "mixup: beyond empirical risk minimization", equation 1; alpha as
    for ImageNet, section 3.1. Differs: each example draws its own share, not the batch one.

    >>> image, share = mixup(jax.random.key(0), jnp.ones((8, 8, 3)), jnp.zeros((8, 8, 3)))
    >>> bool(jnp.all(image == share))
    True
    """
    require_positive(alpha=alpha)
    require_floats(image, "mixup")
    require_same_shape("mixup", image, partner)
    share = _draw_share(key, alpha)
    own = share.astype(image.dtype)
    return own * image + (1 - own) * partner, share


def cutmix(key, image, partner, *, alpha=1.0):
    """The image with a rectangle of its partner.

    The rectangle has the image's aspect and the area `1 - s`, with s drawn from Beta(alpha, alpha);
    its center is any pixel, and what lies outside of the image is cut off. The share is the part of
    the image that is still its own.

    Raises: ValueError for an alpha that is not positive, UserError for a partner of another shape.

    Reference: Yun et al. 2019, "CutMix: regularization strategy to train strong classifiers with
    localizable features", equations 1 and 2, and appendix A. Differs: as in `mixup`.

    >>> image, share = cutmix(jax.random.key(0), jnp.ones((8, 8, 1)), jnp.zeros((8, 8, 1)))
    >>> bool(image.mean() == share)
    True
    """
    require_positive(alpha=alpha)
    require_same_shape("cutmix", image, partner)
    height, width, _ = image.shape
    for_share, for_place = jax.random.split(key)
    side = jnp.sqrt(1 - _draw_share(for_share, alpha))
    rows, columns = (jnp.int32(size * side) for size in (height, width))
    place = jax.random.uniform(for_place, (2,))
    top = jnp.int32(height * place[0]) - rows // 2
    left = jnp.int32(width * place[1]) - columns // 2
    inside = rectangle((top, left, top + rows, left + columns), height, width)
    return jnp.where(inside, partner, image), 1 - inside.mean(dtype=jnp.float32)


def _draw_share(key, alpha):
    """From Beta(alpha, alpha), which is uniform for an alpha of 1, and then drawn in no time."""
    if alpha == 1:
        return jax.random.uniform(key)
    return jax.random.beta(key, alpha, alpha, dtype=jnp.float32)


def swap_neighbors(x):
    """Example `i XOR 1` in the place of example i: `[B, …]`. The batch being in random order, that
    is a random partner; it lies on the same device, however the batch is divided.

    Raises: UserError for an odd number of examples.

    >>> swap_neighbors(jnp.arange(4)).tolist()
    [1, 0, 3, 2]
    """
    if len(x) % 2:
        raise UserError(f"examples are mixed in pairs: {len(x)} on one device is an odd number")
    return x.reshape(len(x) // 2, 2, *x.shape[1:])[:, ::-1].reshape(x.shape)


def mix_neighbors(mix, key, images, partners):
    """Every image mixed with its partner, each by a key of its own.

    Args:
      mix: `f(key, image, partner) -> (image, share)`.
      key: of the whole batch.
      images, partners: `[B, H, W, C]`, floats.

    Returns: images `[B, H, W, C]` and shares `[B]`.

    >>> images = jnp.ones((2, 4, 4, 1))
    >>> mix_neighbors(mixup, jax.random.key(0), images, swap_neighbors(images))[1].shape
    (2,)
    """
    return jax.vmap(mix)(collective.example_keys(key, len(images)), images, partners)


MIXES = {"cutmix": cutmix, "mixup": mixup}
