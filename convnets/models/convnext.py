"""ConvNeXt: a ResNet brought up to the practice of transformers.

Reference: Liu, Mao, Wu, Feichtenhofer, Darrell, Xie 2022, "A ConvNet for the 2020s".
"""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp

from ..layers import Conv, Dense, DropPath, LayerNorm, constant, depth_rates, gelu, run_stage
from .classifier import Classifier
from .entry import Entry

truncated_normal = nn.initializers.truncated_normal


class ConvNeXtBlock(nn.Module):
    """A 7x7 convolution of each channel, layer norm, two dense layers with GELU between them, a
    learned scale for each channel, added to the input.

    Attribute: `drop_path`, the rate at which an example skips the block in training.

    Reference: Liu et al. 2022, figure 4; the scale starts at 1e-6 (Touvron et al. 2021).
    """

    drop_path: float = 0.0

    @nn.compact
    def __call__(self, x, *, train: bool):  # [B, H, W, C] -> [B, H, W, C]
        channels, init = x.shape[3], truncated_normal(0.02)
        y = Conv(channels, 7, groups=channels, kernel_init=init, name="depthwise")(x)
        y = LayerNorm(name="norm")(y)
        y = gelu(Dense(4 * channels, kernel_init=init, name="expand")(y))
        y = Dense(channels, kernel_init=init, name="project")(y)
        scale = self.param("layer_scale", constant(1e-6), (channels,), jnp.float32)
        y = y * scale.astype(y.dtype).reshape(1, 1, 1, -1)
        return x + DropPath(self.drop_path, name="drop_path")(y, train=train)


class ConvNeXt(nn.Module):
    """A stem that cuts the image into 4x4 patches, then four stages, between them layer norm and a
    2x2 convolution of stride 2.

    Attributes:
      stage_sizes: blocks in each stage.
      widths: channels of each stage.
      drop_path: rate of the last block, from 0 at the first evenly up.
      checkpoint: the backward pass computes each stage again.

    Endpoints: `stem`, `stage1` to `stage4`.

    Reference: Liu et al. 2022, section 3 and table 9.
    """

    stage_sizes: tuple[int, ...]
    widths: tuple[int, ...]
    drop_path: float = 0.0
    checkpoint: bool = False

    @nn.compact
    def __call__(self, images, *, train: bool) -> dict:
        conv = partial(Conv, padding=0, kernel_init=truncated_normal(0.02))
        x = conv(self.widths[0], 4, 4, name="stem_conv")(images)
        x = LayerNorm(name="stem_norm")(x)
        endpoints = {"stem": x}
        for stage in range(1, len(self.stage_sizes) + 1):
            x = run_stage(self, ConvNeXt._run_stage, x, stage=stage, train=train)
            endpoints[f"stage{stage}"] = x
        return endpoints

    def _run_stage(self, x, stage, train):
        if stage > 1:
            x = LayerNorm(name=f"downsample{stage}_norm")(x)
            x = Conv(
                self.widths[stage - 1],
                2,
                2,
                padding=0,
                kernel_init=truncated_normal(0.02),
                name=f"downsample{stage}_conv",
            )(x)
        rates = depth_rates(self.drop_path, sum(self.stage_sizes))
        before = sum(self.stage_sizes[: stage - 1])
        for number in range(1, self.stage_sizes[stage - 1] + 1):
            rate = rates[before + number - 1]
            x = ConvNeXtBlock(rate, name=f"stage{stage}_block{number}")(x, train=train)
        return x


class HeadNorm(nn.Module):
    """Layer norm between pool and head."""

    @nn.compact
    def __call__(self, x, *, train: bool):  # [B, C] -> [B, C]
        return LayerNorm(name="norm")(x)


def entry(depth: int, width: int, drop_path: float) -> Entry:
    """Stages of 3, 3, `depth` and 3 blocks, `width` to 8 `width` wide."""
    backbone = partial(
        ConvNeXt, stage_sizes=(3, 3, depth, 3), widths=tuple(width * 2**stage for stage in range(4))
    )
    return Entry(
        backbone,
        classifier=partial(Classifier, hidden=HeadNorm),
        defaults={"drop_path": drop_path},
    )


MODELS = {  # rates: table 5 of the paper
    "convnext_tiny": entry(9, 96, 0.1),
    "convnext_small": entry(27, 96, 0.4),
    "convnext_base": entry(27, 128, 0.5),
    "convnext_large": entry(27, 192, 0.5),
}
