"""Square roots that may meet a zero."""

import jax.numpy as jnp
from jax import lax


def safe_sqrt(x):
    """The root of `x`, and 0 with the gradient 0 where `x` is 0, or less by rounding.

    >>> safe_sqrt(jnp.array([4.0, 0.0])).tolist()
    [2.0, 0.0]
    """
    nothing = x <= 0  # not where it is NaN
    return jnp.where(nothing, 0, lax.sqrt(jnp.where(nothing, 1, x)))
