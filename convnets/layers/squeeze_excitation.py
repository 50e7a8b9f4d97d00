"""Channels weighed by what the whole image holds."""

from collections.abc import Callable

import flax.linen as nn

from ..ops import global_average_pool
from .activations import relu, sigmoid
from .convolution import Dense
from .initializers import he_normal, lecun_normal


class SqueezeExcitation(nn.Module):
    """Every channel times a gate in [0, 1], which two dense layers make of the channels' means.

    Attributes:
      features: width between the two layers.
      activation, gate: behind the first and the second.

    Parameters: dense layers `reduce` and `expand`.

    Reference: Hu, Shen, Sun 2018, "Squeeze-and-excitation networks", section 3.

    >>> import jax, jax.numpy as jnp
    >>> SqueezeExcitation(2).init_with_output(jax.random.key(0), jnp.ones((1, 4, 4, 8)))[0].shape
    (1, 4, 4, 8)
    """

    features: int
    activation: Callable = relu
    gate: Callable = sigmoid

    @nn.compact
    def __call__(self, x):  # [B, H, W, C] -> [B, H, W, C]
        y = Dense(self.features, kernel_init=he_normal(), name="reduce")(global_average_pool(x))
        y = Dense(x.shape[3], kernel_init=lecun_normal(), name="expand")(self.activation(y))
        return x * self.gate(y)[:, None, None, :]
