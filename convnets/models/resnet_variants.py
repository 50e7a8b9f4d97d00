"""Residual networks after ResNet: wider, in groups, with another stem, with attention.

Reference: Zagoruyko, Komodakis 2016, "Wide residual networks" (section 3.3 for ImageNet); Xie,
Girshick, Dollár, Tu, He 2017, "Aggregated residual transformations for deep neural networks"
(ResNeXt; its largest, 32x16d to 32x48d, are those of Mahajan et al. 2018, "Exploring the limits of
weakly supervised pretraining"); He, Zhang, Zhang, Zhang, Xie, Li 2019, "Bag of tricks for image
classification with convolutional neural networks" (ResNet-D); Hu, Shen, Sun 2018,
"Squeeze-and-excitation networks" (SE-ResNet).
"""

from functools import partial

import flax.linen as nn

from ..layers import SqueezeExcitation, relu
from ..ops import average_pool
from .entry import Entry
from .inverted_residual import round_channels
from .resnet import SHALLOW, SIZES, BasicBlock, Bottleneck, ResNet, projection


def deep_stem(x, features: int, *, conv, norm, train: bool):
    """Three 3x3 convolutions, of which the first has stride 2, in the place of one 7x7.

    Reference: He et al. 2019, figure 2b (ResNet-C).
    """
    for number, stride in ((1, 2), (2, 1)):
        x = conv(features // 2, 3, stride, name=f"stem_conv{number}")(x)
        x = relu(norm(name=f"stem_bn{number}")(x, train=train))
    return conv(features, 3, name="conv1")(x)


def pooled_projection(x, features: int, stride: int, **made_with):
    """A shortcut that averages over 2x2 pixels before its 1x1 convolution, where it has a stride.

    Reference: He et al. 2019, figure 2c (ResNet-D).
    """
    if stride > 1:
        x = average_pool(x, 2, stride, ceil_mode=True, count_include_pad=False)
    return projection(x, features, 1, **made_with)


class ChannelAttention(nn.Module):
    """Squeeze-and-excitation to a sixteenth of the channels, as a multiple of 8."""

    @nn.compact
    def __call__(self, x):
        return SqueezeExcitation(round_channels(x.shape[3] / 16), name="squeeze_excitation")(x)


def entry(depth: int, **options) -> Entry:
    """A ResNet for ImageNet of that depth; options of its block."""
    block = BasicBlock if depth in SHALLOW else Bottleneck
    return Entry(partial(ResNet, stage_sizes=SIZES[depth], block=partial(block, **options)))


def with_deep_stem(depth: int) -> Entry:
    """A ResNet-D."""
    plain = entry(depth, shortcut=pooled_projection)
    return plain._replace(backbone=partial(plain.backbone, stem=deep_stem))


MODELS = (
    {
        "wide_resnet50_2": entry(50, group_width=128),
        "wide_resnet101_2": entry(101, group_width=128),
        "resnext50_32x4d": entry(50, groups=32, group_width=4),
        "resnext101_32x4d": entry(101, groups=32, group_width=4),
        "resnext101_32x8d": entry(101, groups=32, group_width=8),
        "resnext101_32x16d": entry(101, groups=32, group_width=16),
        "resnext101_32x32d": entry(101, groups=32, group_width=32),
        "resnext101_32x48d": entry(101, groups=32, group_width=48),
        "resnext101_64x4d": entry(101, groups=64, group_width=4),
    }
    | {f"resnet{depth}d": with_deep_stem(depth) for depth in (18, 26, 34, 50, 101, 152, 200)}
    | {
        f"seresnet{depth}": entry(depth, attention=ChannelAttention)
        for depth in (18, 34, 50, 101, 152)
    }
)
