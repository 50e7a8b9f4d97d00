"""Auto-encoders: images, a code, and images again.

Every model here returns `{"code": …, "reconstruction": …}`, the latter of the image's shape.
"""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp

from .. import ops
from ..errors import UserError
from ..layers import Conv, ConvTranspose, Dense, relu, sigmoid
from ..layers.initializers import Initializer, glorot_uniform, he_normal, zeros
from .requirements import require_layers


class Autoencoder(nn.Module):
    """An encoder and a decoder, each any module called `(x, *, train)`; a decoder that returns
    vectors of as many values as an image has is taken to mean that image.

    Parameters: `encoder/…`, `decoder/…`.

    Raises: UserError for a decoder that makes something else than such images.

    Reference: Hinton, Salakhutdinov 2006, "Reducing the dimensionality of data with neural
    networks".
    """

    encoder: nn.Module
    decoder: nn.Module

    @nn.compact
    def __call__(self, images, *, train: bool) -> dict:
        code = self.encoder(images, train=train)
        return decoded(code, self.decoder(code, train=train), images)


def decoded(code, made, images) -> dict:
    """The code of images, and what a decoder has made of it in their shape.

    Raises: UserError where that has not as many values.
    """
    if made[0].size != images[0].size:
        raise UserError(
            f"the decoder makes {made.shape[1:]} of the code {code.shape[1:]}, not images of "
            f"{images.shape[1:]}"
        )
    return {"code": code, "reconstruction": made.reshape(images.shape)}


class DenseAutoencoder(nn.Module):
    """Dense layers to a code `[B, features[-1]]`, and as many back.

    Attributes:
      features: units of the encoder's layers; the last are the code.
      activation: after every layer, but for the last of the decoder. Without one and with a single
        layer, the best code is the principal components' subspace (Bourlard, Kamp 1988).
      tied: whether each layer of the decoder has the kernel of the encoder's, transposed.

    Parameters: `encoder1`, `encoder2`, …, and `decoder1`, the last one, next to the image, and so
    on; tied ones have a bias only.

    Reference: Bengio, Lamblin, Popovici, Larochelle 2006, "Greedy layer-wise training of deep
    networks", section 3 (tied weights).

    >>> import jax
    >>> model, images = DenseAutoencoder((32, 8), tied=True), jnp.ones((2, 8, 8, 1))
    >>> found, variables = model.init_with_output(jax.random.key(0), images, train=False)
    >>> found["code"].shape, found["reconstruction"].shape
    ((2, 8), (2, 8, 8, 1))
    """

    features: tuple[int, ...]
    activation: Callable = sigmoid
    tied: bool = False
    kernel_init: Initializer = glorot_uniform()

    @nn.compact
    def __call__(self, images, *, train: bool) -> dict:
        require_layers(self.features)
        x = images.reshape(len(images), -1)
        widths, encoders = (x.shape[1], *self.features), []
        for number, features in enumerate(self.features, 1):
            name = f"encoder{number}"
            encoders.append(Dense(features, kernel_init=self.kernel_init, name=name))
            x = self.activation(encoders[-1](x))
        code = x
        for number in range(len(self.features), 0, -1):
            name, width = f"decoder{number}", widths[number - 1]
            if self.tied:
                kernel = encoders[number - 1].variables["params"]["kernel"].astype(x.dtype)
                x = Bias(width, name=name)(x @ kernel.T)
            else:
                x = Dense(width, kernel_init=self.kernel_init, name=name)(x)
            if number > 1:
                x = self.activation(x)
        return {"code": code, "reconstruction": x.reshape(images.shape)}


class Bias(nn.Module):
    """What a layer of a tied decoder has of its own."""

    features: int

    @nn.compact
    def __call__(self, x):
        bias = self.param("bias", zeros, (self.features,), jnp.float32).astype(x.dtype)
        return x + bias.reshape(*(1,) * (x.ndim - 1), -1)


class DenseDecoder(nn.Module):
    """One dense layer from a code of any shape to vectors `[B, features]`, of as many values as an
    image has; no activation. A decoder for `Autoencoder`.

    Parameters: `dense`.

    >>> import jax
    >>> decoder = DenseDecoder(64)
    >>> decoder.init_with_output(jax.random.key(0), jnp.ones((2, 3, 3, 5)), train=False)[0].shape
    (2, 64)
    """

    features: int
    kernel_init: Initializer = glorot_uniform()

    @nn.compact
    def __call__(self, code, *, train: bool):
        x = code.reshape(len(code), -1)
        return Dense(self.features, kernel_init=self.kernel_init, name="dense")(x)


class ConvAutoencoder(nn.Module):
    """Convolutions of stride 2 to a code `[B, H / 2^n, W / 2^n, features[-1]]`, and transposed
    ones back.

    Attributes:
      features: channels of the n convolutions.
      kernel_size: odd.
      activation: after every layer, but for the last of the decoder.
      tied: whether each layer of the decoder has the kernel of the encoder's.

    Parameters: `encoder1`, …, and `decoder1`, the last one, next to the image, and so on; tied ones
    have a bias only.

    Raises: UserError for images whose sides 2^n does not divide, and an even kernel_size.

    Reference: Masci, Meier, Ciresan, Schmidhuber 2011, "Stacked convolutional auto-encoders for
    hierarchical feature extraction". Differs: strides, in place of max pooling.

    >>> import jax
    >>> images = jnp.ones((2, 8, 8, 1))
    >>> found = ConvAutoencoder((4, 8)).init_with_output(jax.random.key(0), images, train=False)[0]
    >>> found["code"].shape, found["reconstruction"].shape
    ((2, 2, 2, 8), (2, 8, 8, 1))
    """

    features: tuple[int, ...]
    kernel_size: int = 5
    activation: Callable = relu
    tied: bool = False

    @nn.compact
    def __call__(self, images, *, train: bool) -> dict:
        require_layers(self.features)
        if self.kernel_size % 2 == 0:
            raise UserError(f"kernel_size is odd, that sides are halved, not {self.kernel_size}")
        shrunk = 2 ** len(self.features)
        if images.shape[1] % shrunk or images.shape[2] % shrunk:
            raise UserError(
                f"{len(self.features)} convolutions of stride 2 need images whose sides "
                f"{shrunk} divides, not {images.shape[1]}x{images.shape[2]}"
            )
        size, back = self.kernel_size, {"padding": self.kernel_size // 2, "output_padding": 1}
        x, channels, encoders = images, (images.shape[3], *self.features), []
        for number, features in enumerate(self.features, 1):
            name = f"encoder{number}"
            encoders.append(Conv(features, size, 2, kernel_init=he_normal(), name=name))
            x = self.activation(encoders[-1](x))
        code = x
        for number in range(len(self.features), 0, -1):
            name, width = f"decoder{number}", channels[number - 1]
            if self.tied:
                kernel = encoders[number - 1].variables["params"]["kernel"].astype(x.dtype)
                x = Bias(width, name=name)(ops.convolve_transposed(x, kernel, stride=2, **back))
            else:
                x = ConvTranspose(width, size, 2, name=name, **back)(x)
            if number > 1:
                x = self.activation(x)
        return {"code": code, "reconstruction": x}
