"""EfficientNet: depth, width and image size scaled together.

Reference: Tan, Le 2019, "EfficientNet: rethinking model scaling for convolutional neural networks".
"""

import math
from collections.abc import Callable
from functools import partial

import flax.linen as nn

from ..layers import BatchNorm, ones, run_stage, silu, with_epsilon
from ..layers.initializers import Initializer
from .entry import Entry
from .inverted_residual import InvertedResidual, round_channels
from .resnet import ConvBeforeNorm

STAGES = (  # expansion, kernel, stride, features, blocks: table 1
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)


class EfficientNet(nn.Module):
    """A 3x3 convolution, seven stages of inverted residuals, and a 1x1 convolution.

    Attributes:
      width, depth: what channels and blocks of `efficientnet_b0` are multiplied by.
      drop_path: block `i` of `L`, from 0 on, is skipped at `i / L` of this rate.
      epsilon: of every batch norm, unless `norm` binds one.
      norm: makes every normalization.
      last_scale_init: of the last batch norm of each block that is added to its input; with zeros
        such a block starts as the identity.
      checkpoint: the backward pass computes each stage again.

    Endpoints: `stem`, `stage1` to `stage7`, `last`.

    Reference: Tan, Le 2019, table 1 and section 3.3; squeeze-and-excitation has a quarter of the
    block's input channels, as in the authors' code. Differs: padding is symmetric, as in
    torchvision, and running statistics keep 0.9 of the old, not 0.99, which short trainings never
    fill.
    """

    width: float
    depth: float
    drop_path: float = 0.2
    epsilon: float = 1e-5
    norm: Callable[..., nn.Module] = BatchNorm
    last_scale_init: Initializer = ones
    checkpoint: bool = False

    @nn.compact
    def __call__(self, images, *, train: bool) -> dict:
        norm = with_epsilon(self.norm, self.epsilon)
        x = ConvBeforeNorm(round_channels(32 * self.width), 3, 2, name="conv1")(images)
        x = silu(norm(name="bn1")(x, train=train))
        endpoints = {"stem": x}
        for stage in range(1, len(STAGES) + 1):
            x = run_stage(self, EfficientNet._run_stage, x, stage=stage, train=train)
            endpoints[f"stage{stage}"] = x
        x = ConvBeforeNorm(4 * x.shape[3], 1, name="conv_last")(x)
        endpoints["last"] = silu(norm(name="bn_last")(x, train=train))
        return endpoints

    def _run_stage(self, x, stage, train):
        counts = [math.ceil(self.depth * blocks) for *_, blocks in STAGES]
        before = sum(counts[: stage - 1])
        expansion, kernel_size, stride, features, _ = STAGES[stage - 1]
        for number in range(counts[stage - 1]):
            block = InvertedResidual(
                round_channels(features * self.width),
                expansion * x.shape[3],
                kernel_size,
                stride if number == 0 else 1,
                squeezed=max(1, x.shape[3] // 4),
                activation=silu,
                squeeze_activation=silu,
                drop_path=self.drop_path * (before + number) / sum(counts),
                norm=with_epsilon(self.norm, self.epsilon),
                last_scale_init=self.last_scale_init,
                name=f"stage{stage}_block{number + 1}",
            )
            x = block(x, train=train)
        return x


def entry(width: float, depth: float, side: int, dropout: float, epsilon: float = 1e-5) -> Entry:
    """One of the family, for images of `side` times `side` pixels."""
    backbone = partial(EfficientNet, width=width, depth=depth)
    return Entry(backbone, (side, side, 3), defaults={"dropout": dropout, "epsilon": epsilon})


MODELS = {  # from B5 on torchvision has another epsilon
    "efficientnet_b0": entry(1.0, 1.0, 224, 0.2),
    "efficientnet_b1": entry(1.0, 1.1, 240, 0.2),
    "efficientnet_b2": entry(1.1, 1.2, 260, 0.3),
    "efficientnet_b3": entry(1.2, 1.4, 300, 0.3),
    "efficientnet_b4": entry(1.4, 1.8, 380, 0.4),
    "efficientnet_b5": entry(1.6, 2.2, 456, 0.4, epsilon=1e-3),
    "efficientnet_b6": entry(1.8, 2.6, 528, 0.5, epsilon=1e-3),
    "efficientnet_b7": entry(2.0, 3.1, 600, 0.5, epsilon=1e-3),
}
