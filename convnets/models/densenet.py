"""DenseNet: every layer sees all layers before it.

Reference: Huang, Liu, van der Maaten, Weinberger 2017, "Densely connected convolutional networks".
"""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax.numpy as jnp

from ..layers import BatchNorm, Dropout, relu, run_stage
from ..ops import average_pool, max_pool
from .entry import Entry
from .resnet import ConvBeforeNorm


class DenseLayer(nn.Module):
    """Batch norm, ReLU and a 1x1 convolution to four times `features`, then the same with a 3x3 to
    `features`, put behind the input.

    Reference: Huang et al. 2017, section 3, "DenseNet-B".
    """

    features: int
    dropout: float = 0.0
    norm: Callable[..., nn.Module] = BatchNorm

    @nn.compact
    def __call__(self, x, *, train: bool):  # [B, H, W, C] -> [B, H, W, C + features]
        y = relu(self.norm(name="bn1")(x, train=train))
        y = ConvBeforeNorm(4 * self.features, 1, name="conv1")(y)
        y = relu(self.norm(name="bn2")(y, train=train))
        y = ConvBeforeNorm(self.features, 3, name="conv2")(y)
        if self.dropout:
            y = Dropout(self.dropout, name="dropout")(y, train=train)
        return jnp.concatenate([x, y], 3)


class DenseNet(nn.Module):
    """Four blocks of dense layers, between them transitions that halve channels and sides.

    Attributes:
      stage_sizes: dense layers in each block.
      growth: channels that each of them adds; the stem has twice as many.
      layer_dropout: rate behind each of them (0.2 in the paper where there is no augmentation).
      norm: makes every normalization.
      checkpoint: the backward pass computes each block, with its transition, again.

    Endpoints: `stem` (before its pooling), `stage1` to `stage4` (before the transitions), and
    `norm`, the last after its batch norm and ReLU.

    Reference: Huang et al. 2017, table 1 (DenseNet-BC, compression 0.5).
    """

    stage_sizes: tuple[int, ...]
    growth: int = 32
    layer_dropout: float = 0.0
    norm: Callable[..., nn.Module] = BatchNorm
    checkpoint: bool = False

    @nn.compact
    def __call__(self, images, *, train: bool) -> dict:
        x = ConvBeforeNorm(2 * self.growth, 7, 2, name="conv1")(images)
        x = relu(self.norm(name="bn1")(x, train=train))
        endpoints = {"stem": x}
        for stage in range(1, len(self.stage_sizes) + 1):
            x = run_stage(self, DenseNet._run_stage, x, stage=stage, train=train)
            endpoints[f"stage{stage}"] = x
        endpoints["norm"] = relu(self.norm(name="bn_last")(x, train=train))
        return endpoints

    def _run_stage(self, x, stage, train):
        if stage == 1:
            x = max_pool(x, 3, 2, padding=1)
        else:
            x = relu(self.norm(name=f"transition{stage - 1}_bn")(x, train=train))
            x = ConvBeforeNorm(x.shape[3] // 2, 1, name=f"transition{stage - 1}_conv")(x)
            x = average_pool(x, 2)
        for number in range(1, self.stage_sizes[stage - 1] + 1):
            layer = DenseLayer(
                self.growth, self.layer_dropout, self.norm, name=f"stage{stage}_block{number}"
            )
            x = layer(x, train=train)
        return x


MODELS = {
    "densenet121": Entry(partial(DenseNet, stage_sizes=(6, 12, 24, 16))),
    "densenet161": Entry(partial(DenseNet, stage_sizes=(6, 12, 36, 24), growth=48)),
    "densenet169": Entry(partial(DenseNet, stage_sizes=(6, 12, 32, 32))),
    "densenet201": Entry(partial(DenseNet, stage_sizes=(6, 12, 48, 32))),
}
