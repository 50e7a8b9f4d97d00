"""Activations: plain functions of one array, and PReLU, which learns its slopes."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from ..ops.convolution import require_floats
from .initializers import constant


def tanh(x):
    """`tanh(x)`."""
    return jnp.tanh(x)


def scaled_tanh(x):
    """`1.7159 tanh(2x / 3)`: -1 and 1 stay where they are, and bend the most there.

    Reference: LeCun, Bottou, Orr, Müller 1998, "Efficient BackProp", section 4.4.

    >>> round(float(scaled_tanh(1.0)), 4)
    1.0
    """
    return 1.7159 * jnp.tanh(2 / 3 * x)


def sigmoid(x):
    """`1 / (1 + exp(-x))`."""
    return jax.nn.sigmoid(x)


def relu(x):
    """`max(x, 0)`, with derivative 0 at 0.

    Reference: Nair, Hinton 2010, "Rectified linear units improve restricted Boltzmann machines".
    """
    return jax.nn.relu(x)


def leaky_relu(x, slope=0.01):
    """`x` where it is not negative, else `slope * x`.

    Reference: Maas, Hannun, Ng 2013, "Rectifier nonlinearities improve neural network acoustic
    models", section 2.
    """
    return jax.nn.leaky_relu(x, slope)


def elu(x, alpha=1.0):
    """`x` where it is positive, else `alpha (exp(x) - 1)`.

    Reference: Clevert, Unterthiner, Hochreiter 2016, equation 15.
    """
    return jax.nn.elu(x, alpha)


def selu(x):
    """`1.0507 elu(x, 1.6733)`, which keeps mean 0 and variance 1 from layer to layer.

    Reference: Klambauer, Unterthiner, Mayr, Hochreiter 2017, equation 2. It wants the weights of
    `lecun_normal`.
    """
    return jax.nn.selu(x)


def silu(x):
    """`x sigmoid(x)`, also called swish.

    Reference: Ramachandran, Zoph, Le 2017, "Searching for activation functions", section 4.
    """
    return jax.nn.silu(x)


def gelu(x):
    """`x Phi(x)`, with the distribution function of the normal distribution itself, not its
    approximation by tanh.

    Reference: Hendrycks, Gimpel 2016, "Gaussian error linear units", section 2.
    """
    return jax.nn.gelu(x, approximate=False)


def hard_sigmoid(x):
    """`min(max(x + 3, 0), 6) / 6`: three straight pieces in the place of `sigmoid`.

    Reference: Howard et al. 2019, "Searching for MobileNetV3", section 5.2.
    """
    return jnp.clip(x + 3, 0, 6) / 6


def hard_swish(x):
    """`x hard_sigmoid(x)`, in the place of `silu`.

    Reference: Howard et al. 2019, "Searching for MobileNetV3", section 5.2.
    """
    return x * hard_sigmoid(x)


def relu6(x):
    """`min(max(x, 0), 6)`, with derivative 0 at 0 and at 6.

    Reference: Krizhevsky 2010, "Convolutional deep belief networks on CIFAR-10".
    """
    return jax.nn.relu6(x)


class PReLU(nn.Module):
    """`x` where it is not negative, else `slope * x` with a learned slope for each channel.

    Parameter: `slope [C]`, 0.25 at first; C is the last axis of `x`.

    Reference: He, Zhang, Ren, Sun 2015, "Delving deep into rectifiers", equation 1. The paper
    puts no weight decay on the slopes.
    """

    slope_init: nn.initializers.Initializer = constant(0.25)

    @nn.compact
    def __call__(self, x):
        require_floats(x, "PReLU")
        slope = self.param("slope", self.slope_init, (x.shape[-1],), jnp.float32)
        slope = slope.astype(x.dtype).reshape((1,) * (x.ndim - 1) + (-1,))
        return jnp.where(x >= 0, x, slope * x)
