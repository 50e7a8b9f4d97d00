"""The block of the mobile networks: wide inside, narrow between blocks."""

from collections.abc import Callable

import flax.linen as nn

from ..layers import BatchNorm, DropPath, SqueezeExcitation, ones, relu, sigmoid
from ..layers.initializers import Initializer
from .resnet import ConvBeforeNorm


def round_channels(channels: float) -> int:
    """The nearest multiple of 8, never less than nine tenths of `channels`.

    Reference: the authors' code of MobileNetV2 (Sandler et al. 2018).

    >>> [round_channels(channels) for channels in (4, 28.8, 36, 140.8)]
    [8, 32, 40, 144]
    """
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


class InvertedResidual(nn.Module):
    """1x1 expansion, a convolution of each channel, squeeze-and-excitation, a linear 1x1 to
    `features`; added to the input where the shape stays.

    Attributes:
      expanded: channels inside; there is no expansion where the input has as many.
      kernel_size, stride: of the convolution of each channel.
      squeezed: width of squeeze-and-excitation, None for none.
      activation, squeeze_activation, gate: inside the block, and of squeeze-and-excitation.
      last_scale_init: of the last batch norm of a block that is added to its input; with zeros it
        starts as the identity (Goyal et al. 2017, section 5.1).
      drop_path: rate at which an example skips the block in training.

    Reference: Sandler, Howard, Zhu, Zhmoginov, Chen 2018, "MobileNetV2: inverted residuals and
    linear bottlenecks", table 1; Howard et al. 2019, figure 4, with squeeze-and-excitation.
    """

    features: int
    expanded: int
    kernel_size: int = 3
    stride: int = 1
    squeezed: int | None = None
    activation: Callable = relu
    squeeze_activation: Callable = relu
    gate: Callable = sigmoid
    drop_path: float = 0.0
    norm: Callable[..., nn.Module] = BatchNorm
    last_scale_init: Initializer = ones

    @nn.compact
    def __call__(self, x, *, train: bool):  # [B, H, W, C] -> [B, H/stride, W/stride, features]
        y = x
        if self.expanded != x.shape[3]:
            y = ConvBeforeNorm(self.expanded, 1, name="expand")(y)
            y = self.activation(self.norm(name="bn_expand")(y, train=train))
        y = ConvBeforeNorm(
            self.expanded, self.kernel_size, self.stride, groups=self.expanded, name="depthwise"
        )(y)
        y = self.activation(self.norm(name="bn_depthwise")(y, train=train))
        if self.squeezed is not None:
            attention = SqueezeExcitation(
                self.squeezed, self.squeeze_activation, self.gate, name="squeeze_excitation"
            )
            y = attention(y)
        y = ConvBeforeNorm(self.features, 1, name="project")(y)
        added = x.shape == y.shape and self.stride == 1
        scale_init = self.last_scale_init if added else ones
        y = self.norm(name="bn_project", scale_init=scale_init)(y, train=train)
        if added:
            y = x + DropPath(self.drop_path, name="drop_path")(y, train=train)
        return y
