"""Residual networks whose batch norms and ReLUs stand before the convolutions.

Reference: He, Zhang, Ren, Sun 2016, "Identity mappings in deep residual networks"; Zagoruyko,
Komodakis 2016, "Wide residual networks", for 32x32 images.
"""

import re
from collections.abc import Callable
from functools import partial

import flax.linen as nn

from ..errors import UserError
from ..layers import BatchNorm, Dropout, DropPath, relu, run_stage
from ..ops import max_pool
from .cifar_resnet import keep
from .entry import Entry
from .resnet import SHALLOW, SIZES, ConvBeforeNorm, run_blocks


class PreActivationBlock(nn.Module):
    """Batch norm, ReLU, 3x3 convolution, twice; added to the input, or, where the shape changes, to
    a 1x1 convolution of what the first ReLU gives.

    Attributes:
      dropout: the rate before the last convolution.
      drop_path: the rate at which an example skips the block in training.

    Reference: He et al. 2016, figure 4e; Zagoruyko, Komodakis 2016, figure 1d, with dropout.
    """

    features: int
    stride: int = 1
    norm: Callable[..., nn.Module] = BatchNorm
    dropout: float = 0.0
    drop_path: float = 0.0

    @nn.compact
    def __call__(self, x, *, train: bool):  # [B, H, W, C] -> [B, H/stride, W/stride, features]
        first = relu(self.norm(name="bn1")(x, train=train))
        y = ConvBeforeNorm(self.features, 3, self.stride, name="conv1")(first)
        y = relu(self.norm(name="bn2")(y, train=train))
        if self.dropout:
            y = Dropout(self.dropout, name="dropout")(y, train=train)
        y = ConvBeforeNorm(self.features, 3, name="conv2")(y)
        if x.shape != y.shape:
            x = ConvBeforeNorm(self.features, 1, self.stride, name="conv_shortcut")(first)
        if self.drop_path:
            y = DropPath(self.drop_path, name="drop_path")(y, train=train)
        return x + y


class PreActivationBottleneck(nn.Module):
    """The same of a 1x1, a 3x3 and a 1x1 convolution, to four times `features`.

    Reference: He et al. 2016, figure 4e and table 5. Differs: the stride sits on the 3x3.
    """

    features: int
    stride: int = 1
    norm: Callable[..., nn.Module] = BatchNorm
    dropout: float = 0.0
    drop_path: float = 0.0

    @nn.compact
    def __call__(self, x, *, train: bool):  # [B, H, W, C] -> [B, H/stride, W/stride, 4*features]
        first = relu(self.norm(name="bn1")(x, train=train))
        y = ConvBeforeNorm(self.features, 1, name="conv1")(first)
        y = relu(self.norm(name="bn2")(y, train=train))
        y = ConvBeforeNorm(self.features, 3, self.stride, name="conv2")(y)
        y = relu(self.norm(name="bn3")(y, train=train))
        if self.dropout:
            y = Dropout(self.dropout, name="dropout")(y, train=train)
        y = ConvBeforeNorm(4 * self.features, 1, name="conv3")(y)
        if x.shape != y.shape:
            x = ConvBeforeNorm(4 * self.features, 1, self.stride, name="conv_shortcut")(first)
        if self.drop_path:
            y = DropPath(self.drop_path, name="drop_path")(y, train=train)
        return x + y


class ResNetV2(nn.Module):
    """A convolution, stages of blocks as in `ResNet`, and one batch norm and ReLU at the end.

    Attributes:
      stage_sizes: blocks in each stage.
      block: makes a block, called `(features, stride, norm=…, dropout=…, name=…)`.
      features: width of the first stage.
      stem: makes the first convolution, called `(name=…)`.
      stem_pool: `[B, H, W, C] -> [B, H', W', C]` between it and the first stage.
      block_dropout: rate before the last convolution of every block (0.3 in Zagoruyko, Komodakis
        2016, section 2.4).
      drop_path: as in `ResNet`.
      norm: makes every normalization.
      checkpoint: the backward pass computes each stage again.

    Endpoints: `stem` (before `stem_pool`), `stage1`, `stage2`, …, and `norm`, the last after its
    batch norm and ReLU.

    Reference: He et al. 2016, section 3.1 and appendix.
    """

    stage_sizes: tuple[int, ...]
    block: Callable[..., nn.Module]
    features: int = 64
    stem: Callable[..., nn.Module] = partial(ConvBeforeNorm, 64, 7, 2)
    stem_pool: Callable = partial(max_pool, window=3, stride=2, padding=1)
    block_dropout: float = 0.0
    drop_path: float = 0.0
    norm: Callable[..., nn.Module] = BatchNorm
    checkpoint: bool = False

    @nn.compact
    def __call__(self, images, *, train: bool) -> dict:
        x = self.stem(name="conv1")(images)
        endpoints = {"stem": x}
        x = self.stem_pool(x)
        for stage in range(1, len(self.stage_sizes) + 1):
            made_with = {"norm": self.norm, "dropout": self.block_dropout}
            x = run_stage(self, run_blocks, x, stage=stage, train=train, **made_with)
            endpoints[f"stage{stage}"] = x
        endpoints["norm"] = relu(self.norm(name="bn_last")(x, train=train))
        return endpoints


def entry(depth: int) -> Entry:
    """A pre-activation ResNet for ImageNet of that depth."""
    block = PreActivationBlock if depth in SHALLOW else PreActivationBottleneck
    return Entry(partial(ResNetV2, stage_sizes=SIZES[depth], block=block))


def wide(depth: int, width: int) -> Entry:
    """Three stages of (depth - 4) / 6 blocks, `width` times 16, 32 and 64 wide."""
    backbone = partial(
        ResNetV2,
        stage_sizes=((depth - 4) // 6,) * 3,
        block=PreActivationBlock,
        features=16 * width,
        stem=partial(ConvBeforeNorm, 16, 3),
        stem_pool=keep,
    )
    return Entry(backbone, (32, 32, 3), 10)


def find(name: str) -> Entry | None:
    """The entry of any `cifar_wrn{depth}_{width}`, None where the name is not of this family.

    Raises: UserError for a depth that is not 6k + 4, with the nearest that is.
    """
    match = re.fullmatch("cifar_wrn([1-9][0-9]{0,3})_([1-9][0-9]?)", name)
    if not match:
        return None
    depth, width = int(match[1]), int(match[2])
    if depth < 10 or depth % 6 != 4:
        nearest = f"cifar_wrn{6 * max(1, round((depth - 4) / 6)) + 4}_{width}"
        raise UserError(f"{name!r}: depths are 6k + 4, from 10; try {nearest!r}")
    return wide(depth, width)


MODELS = {f"resnetv2_{depth}": entry(depth) for depth in (18, 34, 50, 101, 152)} | {
    f"cifar_wrn{depth}_{width}": wide(depth, width)
    for depth, width in ((10, 1), (16, 4), (16, 8), (22, 8), (28, 10), (40, 4))
}
