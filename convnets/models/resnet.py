"""Residual networks for ImageNet, and the plain ones that they are compared with.

Reference: He, Zhang, Ren, Sun 2015, "Deep residual learning for image recognition".
"""

from collections.abc import Callable
from functools import partial

import flax.linen as nn

from ..layers import BatchNorm, Conv, DropPath, depth_rates, he_normal, relu, run_stage, zeros
from ..layers.initializers import Initializer
from ..ops import max_pool
from .entry import Entry

ConvBeforeNorm = partial(Conv, use_bias=False, kernel_init=he_normal("fan_out"))


def projection(x, features: int, stride: int, *, conv, norm, train: bool):
    """A shortcut to other shapes by a 1x1 convolution: option B of section 4.1."""
    x = conv(features, 1, stride, name="conv_shortcut")(x)
    return norm(name="bn_shortcut")(x, train=train)


def stem7x7(x, features: int, *, conv, norm, train: bool):
    """One 7x7 convolution of stride 2."""
    return conv(features, 7, 2, name="conv1")(x)


class PlainBlock(nn.Module):
    """Two 3x3 convolutions in a row: a `BasicBlock` without its shortcut."""

    features: int
    stride: int = 1
    conv: Callable[..., nn.Module] = ConvBeforeNorm
    norm: Callable[..., nn.Module] = BatchNorm

    @nn.compact
    def __call__(self, x, *, train: bool):  # [B, H, W, C] -> [B, H/stride, W/stride, features]
        x = self.conv(self.features, 3, self.stride, name="conv1")(x)
        x = relu(self.norm(name="bn1")(x, train=train))
        x = self.conv(self.features, 3, name="conv2")(x)
        return relu(self.norm(name="bn2")(x, train=train))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions, added to a shortcut.

    Attributes:
      shortcut: `f(x, features, stride, *, conv, norm, train)`, used where the shape changes.
      last_scale_init: of the last batch norm; with zeros every block starts as its shortcut
        (Goyal et al. 2017, section 5.1), as the paper itself did not.
      attention: makes what weighs the channels before the shortcut is added; None for nothing.
      drop_path: rate at which an example skips the block in training (Huang et al. 2016).

    Reference: He et al. 2015, figure 5, left.
    """

    features: int
    stride: int = 1
    conv: Callable[..., nn.Module] = ConvBeforeNorm
    norm: Callable[..., nn.Module] = BatchNorm
    shortcut: Callable = projection
    last_scale_init: Initializer = zeros
    attention: Callable[..., nn.Module] | None = None
    drop_path: float = 0.0

    @nn.compact
    def __call__(self, x, *, train: bool):  # [B, H, W, C] -> [B, H/stride, W/stride, features]
        y = self.conv(self.features, 3, self.stride, name="conv1")(x)
        y = relu(self.norm(name="bn1")(y, train=train))
        y = self.conv(self.features, 3, name="conv2")(y)
        y = self.norm(name="bn2", scale_init=self.last_scale_init)(y, train=train)
        if self.attention is not None:
            y = self.attention(name="attention")(y)
        if self.drop_path:
            y = DropPath(self.drop_path, name="drop_path")(y, train=train)
        if x.shape != y.shape:
            x = self.shortcut(
                x, self.features, self.stride, conv=self.conv, norm=self.norm, train=train
            )
        return relu(x + y)


class Bottleneck(nn.Module):
    """1x1 reduce, 3x3, 1x1 expand, added to a shortcut.

    Attributes:
      groups, group_width: the 3x3 is cut into `groups`, each `group_width` wide where `features`
        is 64, and in proportion elsewhere.
      shortcut, last_scale_init, attention, drop_path: as in `BasicBlock`.

    Reference: He et al. 2015, figure 5, right; Xie et al. 2017, figure 3c, for groups. Differs: the
    stride sits on the 3x3, as in torchvision.
    """

    features: int
    stride: int = 1
    conv: Callable[..., nn.Module] = ConvBeforeNorm
    norm: Callable[..., nn.Module] = BatchNorm
    groups: int = 1
    group_width: int = 64
    shortcut: Callable = projection
    last_scale_init: Initializer = zeros
    attention: Callable[..., nn.Module] | None = None
    drop_path: float = 0.0

    @nn.compact
    def __call__(self, x, *, train: bool):  # [B, H, W, C] -> [B, H/stride, W/stride, 4*features]
        width = self.features * self.group_width // 64 * self.groups
        y = self.conv(width, 1, name="conv1")(x)
        y = relu(self.norm(name="bn1")(y, train=train))
        y = self.conv(width, 3, self.stride, groups=self.groups, name="conv2")(y)
        y = relu(self.norm(name="bn2")(y, train=train))
        y = self.conv(4 * self.features, 1, name="conv3")(y)
        y = self.norm(name="bn3", scale_init=self.last_scale_init)(y, train=train)
        if self.attention is not None:
            y = self.attention(name="attention")(y)
        if self.drop_path:
            y = DropPath(self.drop_path, name="drop_path")(y, train=train)
        if x.shape != y.shape:
            x = self.shortcut(
                x, 4 * self.features, self.stride, conv=self.conv, norm=self.norm, train=train
            )
        return relu(x + y)


class ResNet(nn.Module):
    """A stem, then stages of blocks; from stage to stage the width doubles and the side halves.

    Attributes:
      stage_sizes: blocks in each stage.
      block: makes a block, called `(features, stride, conv=…, norm=…, name=…)`.
      features: channels of the stem and width of the first stage.
      stem: the convolutions before the first batch norm, `f(x, features, *, conv, norm, train)`.
      stem_pool: `[B, H, W, C] -> [B, H', W', C]` between stem and first stage.
      conv, norm: make every convolution and every normalization.
      last_scale_init: of the last batch norm of every block: `zeros`, with which a block starts as
        its shortcut, or `ones`; None for what the blocks have of their own (zeros, but ones in the
        networks for 32x32 images).
      drop_path: rate at which an example skips the last block in training, from 0 at the first
        block evenly up (Huang et al. 2016, "Deep networks with stochastic depth", with 0.5).
      checkpoint: the backward pass computes each stage again (see `layers.run_stage`).

    Endpoints: `stem` (before `stem_pool`), `stage1`, `stage2`, …; for ImageNet their strides are
    2, 4, 8, 16, 32.

    Reference: He et al. 2015, table 1. Convolutions start at He's variance `2 / fan_out`, as in
    torchvision; the paper counts fan in.
    """

    stage_sizes: tuple[int, ...]
    block: Callable[..., nn.Module]
    features: int = 64
    stem: Callable = stem7x7
    stem_pool: Callable = partial(max_pool, window=3, stride=2, padding=1)
    conv: Callable[..., nn.Module] = ConvBeforeNorm
    norm: Callable[..., nn.Module] = BatchNorm
    last_scale_init: Initializer | None = None
    drop_path: float = 0.0
    checkpoint: bool = False

    @nn.compact
    def __call__(self, images, *, train: bool) -> dict:
        x = self.stem(images, self.features, conv=self.conv, norm=self.norm, train=train)
        x = relu(self.norm(name="bn1")(x, train=train))
        endpoints = {"stem": x}
        x = self.stem_pool(x)
        for stage in range(1, len(self.stage_sizes) + 1):
            made_with = {"conv": self.conv, "norm": self.norm}
            if self.last_scale_init is not None:
                made_with["last_scale_init"] = self.last_scale_init
            x = run_stage(self, run_blocks, x, stage=stage, train=train, **made_with)
            endpoints[f"stage{stage}"] = x
        return endpoints


def run_blocks(network, x, *, stage: int, train: bool, **made_with):
    """One stage of a residual network: its blocks, of which the first may halve the side."""
    rates = depth_rates(network.drop_path, sum(network.stage_sizes))
    before = sum(network.stage_sizes[: stage - 1])
    for number in range(1, network.stage_sizes[stage - 1] + 1):
        if network.drop_path:  # plain blocks have no branch to drop, nor this option
            made_with["drop_path"] = rates[before + number - 1]
        x = network.block(
            network.features * 2 ** (stage - 1),
            stride=2 if stage > 1 and number == 1 else 1,
            name=f"stage{stage}_block{number}",
            **made_with,
        )(x, train=train)
    return x


SIZES = {  # table 1, and two more of timm's: depth -> blocks in each stage
    18: (2, 2, 2, 2),
    26: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}
SHALLOW = (18, 34)  # of basic blocks; the others are of bottlenecks
UNBRANCHED = {"last_scale_init": None, "drop_path": 0.0}  # not open to plain networks


def entry(depth: int, block: Callable[..., nn.Module], **bound) -> Entry:
    return Entry(partial(ResNet, stage_sizes=SIZES[depth], block=block, **bound))


MODELS = (
    {f"plain{depth}": entry(depth, PlainBlock, **UNBRANCHED) for depth in SHALLOW}
    | {f"resnet{depth}": entry(depth, BasicBlock) for depth in SHALLOW}
    | {f"resnet{depth}": entry(depth, Bottleneck) for depth in (50, 101, 152)}
)
