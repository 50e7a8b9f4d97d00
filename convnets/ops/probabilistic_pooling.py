"""Probabilistic max pooling: at most one unit of a block is on, and the pool is on if one is."""

import jax
import jax.numpy as jnp

from ..errors import UserError
from .convolution import require_images


def probabilistic_max_pool(energies, block: int):
    """The probabilities that units, and pools over blocks of them, are on.

    A block has `block * block + 1` states: one unit is on, or none is. With the input `e` of each
    unit, unit `k` is on with probability `exp(e_k) / (1 + sum_j exp(e_j))`, and the pool is off
    with probability `1 / (1 + sum_j exp(e_j))`.

    Args:
      energies: the units' inputs `[B, H, W, C]`, floats.
      block: height and width of a block, which divides H and W.

    Returns: `[B, H, W, C]` of units and `[B, H / block, W / block, C]` of pools.

    Raises: TypeError for integers, UserError for images that blocks do not divide.

    Reference: Lee, Grosse, Ranganath, Ng 2009, "Convolutional deep belief networks for scalable
    unsupervised learning of hierarchical representations", section 3.3.

    >>> units, pools = probabilistic_max_pool(jnp.zeros((1, 2, 2, 1)), 2)
    >>> units.ravel().round(3).tolist(), pools.ravel().round(3).tolist()
    ([0.20000000298023224, 0.20000000298023224, 0.20000000298023224, 0.20000000298023224], \
[0.800000011920929])
    """
    require_images(energies, "probabilistic_max_pool")
    probabilities = jax.nn.softmax(_states(energies, block), -1)
    units, off = probabilities[..., :-1], probabilities[..., -1]
    return _unfold(units, energies.shape, block), 1 - off


def log_block_partition(energies, block: int):
    """The logarithm of the sum over a block's states, `log(1 + sum_j exp(e_j))`: `[B, H / block,
    W / block, C]`; arguments and errors as in `probabilistic_max_pool`.

    >>> log_block_partition(jnp.zeros((1, 2, 2, 1)), 2).round(4).item()
    1.609...
    """
    require_images(energies, "log_block_partition")
    return jax.nn.logsumexp(_states(energies, block), -1)


def sample_probabilistic_max_pool(key, energies, block: int):
    """A sample of units and pools, zeros and ones; the other arguments, the shapes and the errors
    as in `probabilistic_max_pool`.

    >>> units, pools = sample_probabilistic_max_pool(jax.random.key(0), jnp.zeros((1, 4, 4, 1)), 2)
    >>> bool((units.sum() == pools.sum()))
    True
    """
    require_images(energies, "sample_probabilistic_max_pool")
    states = _states(energies, block)
    state = jax.random.categorical(key, states)
    chosen = jax.nn.one_hot(state, states.shape[-1], dtype=energies.dtype)
    return _unfold(chosen[..., :-1], energies.shape, block), 1 - chosen[..., -1]


def _states(energies, block):
    """The exponents of a block's states, that of none last: `[B, H / b, W / b, C, b * b + 1]`."""
    images, height, width, channels = energies.shape
    if block < 1 or height % block or width % block:
        raise UserError(
            f"blocks of {block}x{block} do not divide {height}x{width} pixels; take images of a "
            "multiple of it"
        )
    x = energies.reshape(images, height // block, block, width // block, block, channels)
    x = x.transpose(0, 1, 3, 5, 2, 4).reshape(*x.shape[:2], width // block, channels, block**2)
    return jnp.concatenate([x, jnp.zeros((*x.shape[:-1], 1), x.dtype)], -1)


def _unfold(units, shape, block):
    """Blocks as images again."""
    images, rows, columns, channels = units.shape[:4]
    x = units.reshape(images, rows, columns, channels, block, block)
    return x.transpose(0, 1, 4, 2, 5, 3).reshape(shape)
