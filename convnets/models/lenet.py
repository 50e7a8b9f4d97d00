"""LeCun's networks: LeNet-1, and LeNet-5 as it was in 1998 and as it is built today."""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ..layers import Conv, constant, he_normal, lecun_normal, relu, scaled_tanh, zeros
from ..ops import convolve, max_pool, sum_pool
from .classifier import Classifier
from .entry import Entry
from .perceptron import DenseLayers

# Which maps each map of the second convolution sees. Table 1 of LeCun et al. 1990.
LENET1_CONNECTIONS = (
    (0,), (0, 1), (0, 1), (1,), (0, 1), (0, 1),
    (2,), (2, 3), (2, 3), (3,), (2, 3), (2, 3),
)  # fmt: skip

# Table I of LeCun et al. 1998: three neighbors, four neighbors, two and two, all.
LENET5_CONNECTIONS = (
    (0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5),
    (0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5),
    (0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5),
    (0, 1, 2, 3, 4, 5),
)  # fmt: skip


class LeNet5(nn.Module):
    """LeNet-5 as it is built today: ReLU, max pooling, every map connected.

    Attributes:
      activation: never falls with its input, so that it may follow the pooling, which leaves it a
        quarter of the work and the same results.

    Endpoints: `c1`, `s2`, `c3`, `s4`; `s4` is `[B, 5, 5, 16]` for images of 28x28 pixels.

    Reference: LeCun, Bottou, Bengio, Haffner 1998, figure 2. Differs: see `ClassicLeNet` for
    what the paper has in place of ReLU, max pooling and full connections.
    """

    activation: Callable = relu

    @nn.compact
    def __call__(self, images, *, train: bool) -> dict:
        conv = partial(Conv, kernel_size=5, kernel_init=he_normal())
        c1 = conv(6, padding=2, name="conv1")(images)
        s2 = self.activation(max_pool(c1, 2))
        c3 = conv(16, padding=0, name="conv2")(s2)
        s4 = self.activation(max_pool(c3, 2))
        return {"c1": self.activation(c1), "s2": s2, "c3": self.activation(c3), "s4": s4}


class ClassicLeNet(nn.Module):
    """Convolutions with a connection table and subsampling with parameters, as LeNet-1 and LeNet-5
    had them.

    Attributes:
      maps: channels of the first convolution.
      connections: for each map of the second convolution, the maps that it sees.
      padding: pixels around the image; 2 makes 32x32 of MNIST's 28x28.

    Endpoints: `c1`, `s2`, `c3`, `s4`, each after the activation.

    Reference: LeCun et al. 1990, "Handwritten digit recognition with a back-propagation network"
    (LeNet-1: 2,578 parameters); LeCun, Bottou, Bengio, Haffner 1998, section II.B (LeNet-5: C1
    156, S2 12, C3 1,516, S4 32, C5 48,120, F6 10,164). Differs: LeNet-5's scores are a dense layer
    of 850 parameters instead of distances to fixed codes; weights start at variance 1 / fan_in,
    not uniform in ±2.4 / fan_in.
    """

    maps: int
    connections: tuple[tuple[int, ...], ...]
    padding: int = 0
    activation: Callable = scaled_tanh

    @nn.compact
    def __call__(self, images, *, train: bool) -> dict:
        conv1 = Conv(self.maps, 5, padding=self.padding, kernel_init=lecun_normal(), name="conv1")
        c1 = self.activation(conv1(images))
        s2 = self.activation(Subsampling(name="subsampling1")(c1))
        c3 = self.activation(PartialConv(self.connections, 5, name="conv2")(s2))
        s4 = self.activation(Subsampling(name="subsampling2")(c3))
        return {"c1": c1, "s2": s2, "c3": c3, "s4": s4}


class Subsampling(nn.Module):
    """The sum of each 2x2 window, times a coefficient, plus a bias, both learned for each map.

    Parameters: `coefficient [C]`, a quarter at first, `bias [C]`.
    """

    @nn.compact
    def __call__(self, x):  # [B, H, W, C] -> [B, H/2, W/2, C]
        channels = (x.shape[3],)
        coefficient = self.param("coefficient", constant(0.25), channels)
        bias = self.param("bias", zeros, channels)
        coefficient, bias = (v.astype(x.dtype).reshape(1, 1, 1, -1) for v in (coefficient, bias))
        return coefficient * sum_pool(x, 2) + bias


class PartialConv(nn.Module):
    """A convolution in which each output map sees only some of the input maps; no padding.

    Attributes:
      connections: for each output map, the input maps that it sees.
      kernel_size: height and width.
      use_bias: whether a bias is added to each map.

    Parameters: `kernel [kernel_size, kernel_size, N]`, one square for each of the N connections
    in their order, and `bias`. Connections that are not there have no parameter, but are computed
    (and counted as multiply-adds) as zeros.
    """

    connections: tuple[tuple[int, ...], ...]
    kernel_size: int
    use_bias: bool = True

    @nn.compact
    def __call__(self, x):  # [B, H, W, C] -> [B, H', W', len(connections)]
        sizes = [len(seen) for seen in self.connections]
        inputs = np.concatenate(self.connections)
        outputs = np.repeat(np.arange(len(sizes)), sizes)
        square = (self.kernel_size, self.kernel_size)

        def init(key, shape, dtype=jnp.float32):
            fan_in = self.kernel_size**2 * np.repeat(sizes, sizes)
            std = jnp.asarray(1 / np.sqrt(fan_in), dtype).reshape(1, 1, -1)
            return std * jax.random.normal(key, shape, dtype)

        kernel = self.param("kernel", init, (*square, len(inputs))).astype(x.dtype)
        empty = jnp.zeros((*square, x.shape[3], len(sizes)), x.dtype)
        x = convolve(x, empty.at[:, :, inputs, outputs].set(kernel))
        if not self.use_bias:
            return x
        bias = self.param("bias", zeros, (len(sizes),)).astype(x.dtype)
        return x + bias.reshape(1, 1, 1, -1)


def _digits(backbone, hidden=None) -> Entry:
    classifier = partial(Classifier, hidden=hidden)
    return Entry(backbone, (28, 28, 1), 10, classifier, {"pool": "flatten"})


MODELS = {
    "lenet1": _digits(partial(ClassicLeNet, maps=4, connections=LENET1_CONNECTIONS, padding=0)),
    "lenet5": _digits(LeNet5, partial(DenseLayers, features=(120, 84))),
    "lenet5_1998": _digits(
        partial(ClassicLeNet, maps=6, connections=LENET5_CONNECTIONS, padding=2),
        partial(
            DenseLayers, features=(120, 84), activation=scaled_tanh, kernel_init=lecun_normal()
        ),
    ),
}
