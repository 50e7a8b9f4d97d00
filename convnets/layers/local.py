"""Small kernels as in a convolution, but shared by no two pixels, or by those a period apart."""

import flax.linen as nn
import jax.numpy as jnp

from .. import ops
from ..errors import UserError
from ..ops.convolution import Padding, as_pair, output_size, require_images
from .initializers import Initializer, variance_scaling, zeros


def local_lecun_normal() -> Initializer:
    """`lecun_normal` of one pixel's kernel: variance `1 / (kernel H * kernel W * C)`."""
    return variance_scaling(1.0, "fan_in", "normal", in_axis=(2, 3, 4), batch_axis=(0, 1))


class LocallyConnected(nn.Module):
    """A convolution of `[B, H, W, C]` that has a kernel and biases of its own for every pixel.

    Attributes:
      features: channels out.
      kernel_size, stride: an int, or one for each of H and W.
      padding: pixels of zeros on each side: an int, `(H, W)` or `((top, bottom), (left, right))`.

    Parameters: `kernel [H', W', kernel H, kernel W, C, features]`, `bias [H', W', features]` for
    results of H' times W' pixels, so that images have the size at which they were made.

    Raises: TypeError for integer images, UserError for images of another size, or smaller than the
    kernel.

    Reference: Gregor, LeCun 2010, "Emergence of complex-like cells in a temporal product network
    with local receptive fields"; Taigman, Yang, Ranzato, Wolf 2014, section 3.2.

    >>> import jax
    >>> layer = LocallyConnected(8, 3, 2)
    >>> y, variables = layer.init_with_output(jax.random.key(0), jnp.ones((1, 9, 9, 2)))
    >>> y.shape, variables["params"]["kernel"].shape
    ((1, 4, 4, 8), (4, 4, 3, 3, 2, 8))
    """

    features: int
    kernel_size: int | tuple[int, int]
    stride: int | tuple[int, int] = 1
    padding: Padding = 0
    use_bias: bool = True
    kernel_init: Initializer = local_lecun_normal()
    bias_init: Initializer = zeros

    @nn.compact
    def __call__(self, x):
        require_images(x, "LocallyConnected")
        kernel_size = as_pair(self.kernel_size)
        pixels = output_size(x.shape[1:3], kernel_size, stride=self.stride, padding=self.padding)
        self._require_size(x, pixels)
        shape = (*pixels, *kernel_size, x.shape[3], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32).astype(x.dtype)
        x = ops.convolve_locally(x, kernel, stride=self.stride, padding=self.padding)
        if not self.use_bias:
            return x
        bias = self.param("bias", self.bias_init, (*pixels, self.features), jnp.float32)
        return x + bias.astype(x.dtype)[None]

    def _require_size(self, x, pixels):
        if not self.has_variable("params", "kernel"):
            return
        made = self.get_variable("params", "kernel").shape[:2]
        if made != pixels:
            raise UserError(
                f"{'/'.join(self.path) or 'LocallyConnected'} has kernels for {made[0]}x{made[1]} "
                f"pixels, but an image of {x.shape[1]}x{x.shape[2]} makes {pixels[0]}x{pixels[1]}: "
                "they are shared by no two pixels, so images keep the size at which it was made"
            )


class TiledConv(nn.Module):
    """A convolution of `[B, H, W, C]` whose kernels and biases come back after `period` pixels.

    Attributes:
      features: channels out.
      kernel_size, stride: an int, or one for each of H and W.
      period: of 1 for a convolution; neighbors less than that apart share nothing.
      padding: pixels of zeros on each side: an int, `(H, W)` or `((top, bottom), (left, right))`.

    Parameters: `kernel [period, period, kernel H, kernel W, C, features]`, `bias [period, period,
    features]`; the pixel `(i, j)` has those at `(i mod period, j mod period)`.

    Raises: TypeError for integer images, ValueError for a period below 1, UserError for images
    smaller than the kernel.

    Reference: Le, Ngiam, Chen, Chia, Koh, Ng 2010, "Tiled convolutional neural networks".

    >>> import jax
    >>> layer = TiledConv(8, 3, period=2)
    >>> y, variables = layer.init_with_output(jax.random.key(0), jnp.ones((1, 9, 9, 2)))
    >>> y.shape, variables["params"]["kernel"].shape
    ((1, 7, 7, 8), (2, 2, 3, 3, 2, 8))
    """

    features: int
    kernel_size: int | tuple[int, int]
    stride: int | tuple[int, int] = 1
    period: int = 2
    padding: Padding = 0
    use_bias: bool = True
    kernel_init: Initializer = local_lecun_normal()
    bias_init: Initializer = zeros

    @nn.compact
    def __call__(self, x):
        require_images(x, "TiledConv")
        if self.period < 1:
            raise ValueError(f"the period is at least 1, not {self.period}")
        tiles = (self.period, self.period)
        shape = (*tiles, *as_pair(self.kernel_size), x.shape[3], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32).astype(x.dtype)
        x = ops.convolve_tiled(x, kernel, stride=self.stride, padding=self.padding)
        if not self.use_bias:
            return x
        bias = self.param("bias", self.bias_init, (*tiles, self.features), jnp.float32)
        rows, columns = (jnp.arange(pixels) % self.period for pixels in x.shape[1:3])
        return x + bias.astype(x.dtype)[None, rows[:, None], columns[None]]
