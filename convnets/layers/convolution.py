"""Convolution and dense layers."""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp

from .. import ops
from ..ops.convolution import Padding, as_pair, require_floats, require_images
from .initializers import Initializer, lecun_normal, variance_scaling, zeros


def transposed_lecun_normal() -> Initializer:
    """`lecun_normal` of a transposed convolution at stride 1, whose kernels are `[kernel H,
    kernel W, features, C]`: variance `1 / (kernel H * kernel W * C)`."""
    return variance_scaling(1.0, "fan_in", "normal", in_axis=(0, 1, 3), out_axis=2)


class Conv(nn.Module):
    """A convolution of `[B, H, W, C]` and a bias for each feature.

    Attributes:
      features: channels out.
      kernel_size, stride, dilation: an int, or one for each of H and W.
      padding: pixels of zeros on each side: an int, `(H, W)` or `((top, bottom), (left, right))`.
        None for half the kernel, `kernel_size // 2 * dilation`, which keeps the size of the image
        for odd kernels at stride 1.
      groups: channels in and features are cut into as many parts, convolved each with its own.

    Parameters: `kernel [kernel H, kernel W, C / groups, features]`, `bias [features]`. They are
    float32, and computed with in the dtype of the image.

    Raises: TypeError for integer images (see `ops.prepare`), UserError for images smaller than
    the kernel.

    >>> import jax
    >>> Conv(8, 3, 2).init_with_output(jax.random.key(0), jnp.ones((1, 28, 28, 1)))[0].shape
    (1, 14, 14, 8)
    """

    features: int
    kernel_size: int | tuple[int, int]
    stride: int | tuple[int, int] = 1
    _: dataclasses.KW_ONLY
    padding: Padding | None = None
    dilation: int | tuple[int, int] = 1
    groups: int = 1
    use_bias: bool = True
    kernel_init: Initializer = lecun_normal()
    bias_init: Initializer = zeros

    @nn.compact
    def __call__(self, x):
        require_images(x, "Conv")
        kernel_size, dilation = as_pair(self.kernel_size), as_pair(self.dilation)
        padding = self.padding
        if padding is None:
            padding = tuple(k // 2 * d for k, d in zip(kernel_size, dilation))
        if self.groups < 1 or x.shape[3] % self.groups:
            raise ValueError(f"{self.groups} groups do not divide the channels of {x.shape}")
        shape = (*kernel_size, x.shape[3] // self.groups, self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32).astype(x.dtype)
        x = ops.convolve(
            x, kernel, stride=self.stride, padding=padding, dilation=dilation, groups=self.groups
        )
        return _add_bias(self, x) if self.use_bias else x


class ConvTranspose(nn.Module):
    """A transposed convolution of `[B, H, W, C]`, which makes images larger, and a bias.

    Attributes:
      features: channels out.
      kernel_size, stride, dilation: an int, or one for each of H and W.
      padding: pixels that are cut off each side: an int, `(H, W)` or the four numbers.
      output_padding: rows and columns more at the bottom and to the right, less than the stride.
      groups: as in `ops.convolve_transposed`.

    Parameters: `kernel [kernel H, kernel W, features / groups, C]`, which is that of the
    convolution back; `bias [features]`. They are float32, and computed with in the dtype of the
    image.

    Raises: TypeError for integer images (see `ops.prepare`).

    >>> import jax
    >>> layer = ConvTranspose(3, 4, 2, padding=1)
    >>> layer.init_with_output(jax.random.key(0), jnp.ones((1, 7, 7, 8)))[0].shape
    (1, 14, 14, 3)
    """

    features: int
    kernel_size: int | tuple[int, int]
    stride: int | tuple[int, int] = 1
    _: dataclasses.KW_ONLY
    padding: Padding = 0
    output_padding: int | tuple[int, int] = 0
    dilation: int | tuple[int, int] = 1
    groups: int = 1
    use_bias: bool = True
    kernel_init: Initializer = transposed_lecun_normal()
    bias_init: Initializer = zeros

    @nn.compact
    def __call__(self, x):
        require_images(x, "ConvTranspose")
        if self.groups < 1 or self.features % self.groups:
            raise ValueError(f"{self.groups} groups do not divide {self.features} features")
        shape = (*as_pair(self.kernel_size), self.features // self.groups, x.shape[3])
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32).astype(x.dtype)
        x = ops.convolve_transposed(
            x,
            kernel,
            stride=self.stride,
            padding=self.padding,
            output_padding=self.output_padding,
            dilation=self.dilation,
            groups=self.groups,
        )
        return _add_bias(self, x) if self.use_bias else x


class Dense(nn.Module):
    """A matrix product over the last axis, and a bias: `[…, C] -> […, features]`.

    Parameters: `kernel [C, features]`, `bias [features]`. They are float32, and computed with in
    the dtype of `x`.

    Raises: TypeError for integers.

    >>> import jax
    >>> Dense(10).init_with_output(jax.random.key(0), jnp.ones((4, 84)))[0].shape
    (4, 10)
    """

    features: int
    use_bias: bool = True
    kernel_init: Initializer = lecun_normal()
    bias_init: Initializer = zeros

    @nn.compact
    def __call__(self, x):
        require_floats(x, "Dense")
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features), jnp.float32)
        x = jnp.dot(x, kernel.astype(x.dtype))
        return _add_bias(self, x) if self.use_bias else x


def _add_bias(layer: nn.Module, x):
    bias = layer.param("bias", layer.bias_init, (layer.features,), jnp.float32)
    return x + bias.astype(x.dtype).reshape((1,) * (x.ndim - 1) + (-1,))
