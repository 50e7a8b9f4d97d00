"""Networks without convolutions: the linear classifier and the multi-layer perceptron."""

from collections.abc import Callable

import flax.linen as nn

from ..layers import Dense, Dropout, he_normal, relu, zeros
from ..layers.initializers import Initializer
from .classifier import flatten
from .entry import Entry


class Pixels(nn.Module):
    """The images themselves, for a classifier that looks at nothing else.

    Endpoint: `pixels [B, H, W, C]`.
    """

    @nn.compact
    def __call__(self, images, *, train: bool) -> dict:
        return {"pixels": images}


class DenseLayers(nn.Module):
    """Dense layers of the given widths, each followed by the activation: `[B, C] -> [B, C']`.

    The hidden part of a head; `kernel_init` suits ReLU unless another one is given. `dropout` is
    the rate before each layer, `dropout_behind` that behind each activation.
    """

    features: tuple[int, ...]
    activation: Callable = relu
    kernel_init: Initializer = he_normal()
    bias_init: Initializer = zeros
    dropout: float = 0.0
    dropout_behind: float = 0.0

    @nn.compact
    def __call__(self, x, *, train: bool):
        for number, features in enumerate(self.features, 1):
            if self.dropout:
                x = Dropout(self.dropout, name=f"dropout{number}")(x, train=train)
            dense = Dense(
                features,
                kernel_init=self.kernel_init,
                bias_init=self.bias_init,
                name=f"dense{number}",
            )
            x = self.activation(dense(x))
            if self.dropout_behind:
                x = Dropout(self.dropout_behind, name=f"dropout_behind{number}")(x, train=train)
        return x


class MLP(nn.Module):
    """A multi-layer perceptron of any depth and width over all pixels.

    Endpoints: `pixels [B, H * W * C]`, then `dense1`, `dense2`, … `[B, features]` after their
    activations.

    >>> MLP((300, 100)).init_with_output(
    ...     jax.random.key(0), jnp.ones((2, 28, 28, 1)), train=False)[0]["dense2"].shape
    (2, 100)
    """

    features: tuple[int, ...] = (800,)
    activation: Callable = relu
    kernel_init: Initializer = he_normal()

    @nn.compact
    def __call__(self, images, *, train: bool) -> dict:
        endpoints = {"pixels": flatten(images)}
        x = endpoints["pixels"]
        for number, features in enumerate(self.features, 1):
            dense = Dense(features, kernel_init=self.kernel_init, name=f"dense{number}")
            x = endpoints[f"dense{number}"] = self.activation(dense(x))
        return endpoints


MODELS = {
    "linear": Entry(Pixels, (28, 28, 1), 10, defaults={"pool": "flatten"}),
    "mlp": Entry(MLP, (28, 28, 1), 10),
}
