"""MobileNet, versions 2 and 3.

Reference: Sandler, Howard, Zhu, Zhmoginov, Chen 2018, "MobileNetV2: inverted residuals and linear
bottlenecks"; Howard et al. 2019, "Searching for MobileNetV3".
"""

from collections.abc import Callable
from functools import partial
from itertools import groupby
from typing import NamedTuple

import flax.linen as nn

from ..layers import (
    BatchNorm,
    hard_sigmoid,
    hard_swish,
    ones,
    relu,
    relu6,
    run_stage,
    with_epsilon,
)
from ..layers.initializers import Initializer
from .classifier import Classifier
from .entry import Entry
from .inverted_residual import InvertedResidual, round_channels
from .perceptron import DenseLayers
from .resnet import ConvBeforeNorm


class Block(NamedTuple):
    """One row of the tables: what an `InvertedResidual` is made with."""

    features: int
    expanded: int
    kernel_size: int = 3
    stride: int = 1
    squeezed: int | None = None
    activation: Callable = relu6


class MobileNet(nn.Module):
    """A 3x3 convolution, inverted residuals, and a 1x1 convolution.

    Attributes:
      blocks: of the network, in order. Blocks of as many features in a row are one stage.
      stem_features, last_features: of the first and the last convolution.
      activation: of these two.
      epsilon: of every batch norm, unless `norm` binds one.
      norm: makes every normalization.
      last_scale_init: of the last batch norm of each block that is added to its input; with zeros
        such a block starts as the identity.
      checkpoint: the backward pass computes each stage again.

    Endpoints: `stem`, `stage1`, `stage2`, …, `last`.

    Reference: Sandler et al. 2018, table 2; Howard et al. 2019, tables 1 and 2.
    """

    blocks: tuple[Block, ...]
    stem_features: int
    last_features: int
    activation: Callable
    epsilon: float = 1e-5
    norm: Callable[..., nn.Module] = BatchNorm
    last_scale_init: Initializer = ones
    checkpoint: bool = False

    @nn.compact
    def __call__(self, images, *, train: bool) -> dict:
        norm = with_epsilon(self.norm, self.epsilon)
        x = ConvBeforeNorm(self.stem_features, 3, 2, name="conv1")(images)
        x = self.activation(norm(name="bn1")(x, train=train))
        endpoints = {"stem": x}
        stages = groupby(self.blocks, key=lambda block: block.features)
        for stage, (_, blocks) in enumerate(stages, 1):
            options = {"blocks": tuple(blocks), "stage": stage, "norm": norm, "train": train}
            x = endpoints[f"stage{stage}"] = run_stage(self, _run_blocks, x, **options)
        x = ConvBeforeNorm(self.last_features, 1, name="conv_last")(x)
        endpoints["last"] = self.activation(norm(name="bn_last")(x, train=train))
        return endpoints


def _run_blocks(network, x, blocks, stage, norm, train):
    for number, block in enumerate(blocks, 1):
        module = InvertedResidual(
            **block._asdict(),
            gate=hard_sigmoid,
            norm=norm,
            last_scale_init=network.last_scale_init,
            name=f"stage{stage}_block{number}",
        )
        x = module(x, train=train)
    return x


def version2(width: float = 1.0) -> Entry:
    """MobileNetV2 with `width` times the channels of the paper (the last layer never has fewer)."""
    table = (  # expansion, features, blocks, stride of the first
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    )
    stem = channels = round_channels(32 * width)
    blocks = []
    for expansion, features, count, stride in table:
        features = round_channels(features * width)
        for number in range(count):
            stride_here = stride if number == 0 else 1
            blocks.append(Block(features, expansion * channels, stride=stride_here))
            channels = features
    backbone = partial(
        MobileNet,
        blocks=tuple(blocks),
        stem_features=stem,
        last_features=round_channels(1280 * max(1.0, width)),
        activation=relu6,
    )
    return Entry(backbone, defaults={"dropout": 0.2})


def version3(*table, hidden: int) -> Entry:
    """MobileNetV3 of rows (kernel, expanded, features, squeeze-and-excitation, activation, stride),
    which ends in a dense layer of `hidden` behind the pool.

    Differs: batch norms have epsilon 1e-3, and squeeze-and-excitation a quarter of the expanded
    channels, as in torchvision and the authors' code; running statistics keep 0.9 of the old, not
    0.99, which short trainings never fill.
    """
    blocks = tuple(
        Block(features, expanded, kernel, stride, squeeze and round_channels(expanded / 4), act)
        for kernel, expanded, features, squeeze, act, stride in table
    )
    backbone = partial(
        MobileNet,
        blocks=blocks,
        stem_features=16,
        last_features=6 * blocks[-1].features,
        activation=hard_swish,
    )
    layers = partial(DenseLayers, features=(hidden,), activation=hard_swish)
    defaults = {"dropout": 0.2, "epsilon": 1e-3}
    return Entry(backbone, classifier=partial(Classifier, hidden=layers), defaults=defaults)


SE, NO = True, None  # with squeeze-and-excitation, or without
RE, HS = relu, hard_swish

MODELS = {
    "mobilenet_v2": version2(),
    "mobilenet_v2_140": version2(1.4),
    "mobilenet_v3_small": version3(
        (3, 16, 16, SE, RE, 2),
        (3, 72, 24, NO, RE, 2),
        (3, 88, 24, NO, RE, 1),
        (5, 96, 40, SE, HS, 2),
        (5, 240, 40, SE, HS, 1),
        (5, 240, 40, SE, HS, 1),
        (5, 120, 48, SE, HS, 1),
        (5, 144, 48, SE, HS, 1),
        (5, 288, 96, SE, HS, 2),
        (5, 576, 96, SE, HS, 1),
        (5, 576, 96, SE, HS, 1),
        hidden=1024,
    ),
    "mobilenet_v3_large": version3(
        (3, 16, 16, NO, RE, 1),
        (3, 64, 24, NO, RE, 2),
        (3, 72, 24, NO, RE, 1),
        (5, 72, 40, SE, RE, 2),
        (5, 120, 40, SE, RE, 1),
        (5, 120, 40, SE, RE, 1),
        (3, 240, 80, NO, HS, 2),
        (3, 200, 80, NO, HS, 1),
        (3, 184, 80, NO, HS, 1),
        (3, 184, 80, NO, HS, 1),
        (3, 480, 112, SE, HS, 1),
        (3, 672, 112, SE, HS, 1),
        (5, 672, 160, SE, HS, 2),
        (5, 960, 160, SE, HS, 1),
        (5, 960, 160, SE, HS, 1),
        hidden=1280,
    ),
}
