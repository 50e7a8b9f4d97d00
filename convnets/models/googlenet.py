"""GoogLeNet: nine modules of four branches each, and two auxiliary heads.

Reference: Szegedy, Liu, Jia, Sermanet, Reed, Anguelov, Erhan, Vanhoucke, Rabinovich 2015, "Going
deeper with convolutions".
"""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax.numpy as jnp

from ..layers import BatchNorm, Conv, Dense, Dropout, relu, run_stage, with_epsilon
from ..layers.convolution import Padding
from ..ops import adaptive_average_pool, max_pool
from .classifier import flatten
from .entry import Entry

EPSILON = 1e-3  # of every batch norm of the Inception family


class ConvUnit(nn.Module):
    """A convolution without bias, batch norm, ReLU."""

    features: int
    kernel_size: int | tuple[int, int]
    stride: int = 1
    padding: Padding | None = None
    norm: Callable[..., nn.Module] = BatchNorm
    kernel_init: Callable = nn.initializers.truncated_normal(0.01)

    @nn.compact
    def __call__(self, x, *, train: bool):
        conv = Conv(
            self.features,
            self.kernel_size,
            self.stride,
            padding=self.padding,
            use_bias=False,
            kernel_init=self.kernel_init,
            name="conv",
        )
        norm = with_epsilon(self.norm, EPSILON)
        return relu(norm(name="bn")(conv(x), train=train))


class Inception(nn.Module):
    """A 1x1 convolution, a 3x3, another 3x3 and a pooling side by side, 1x1 ones before the latter
    three.

    Attribute: `features`: of the 1x1; of the 3x3's reduction and the 3x3; of the other 3x3's
    reduction and of itself; of the 1x1 behind the pooling.

    Reference: Szegedy et al. 2015, figure 2b. Differs: 3x3 in the place of 5x5, as in torchvision.
    """

    features: tuple[int, int, int, int, int, int]
    unit: Callable[..., nn.Module] = ConvUnit

    @nn.compact
    def __call__(self, x, *, train: bool):  # [B, H, W, C] -> [B, H, W, sum of the branches]
        one, reduce3, three, reduce5, five, pooled = self.features
        unit = self.unit
        branches = [
            unit(one, 1, name="branch1")(x, train=train),
            unit(reduce3, 1, name="branch2_reduce")(x, train=train),
            unit(reduce5, 1, name="branch3_reduce")(x, train=train),
            unit(pooled, 1, name="branch4")(max_pool(x, 3, 1, padding=1), train=train),
        ]
        branches[1] = unit(three, 3, name="branch2")(branches[1], train=train)
        branches[2] = unit(five, 3, name="branch3")(branches[2], train=train)
        return jnp.concatenate(branches, 3)


MODULES = {  # table 1 of the paper
    "inception3a": (64, 96, 128, 16, 32, 32),
    "inception3b": (128, 128, 192, 32, 96, 64),
    "inception4a": (192, 96, 208, 16, 48, 64),
    "inception4b": (160, 112, 224, 24, 64, 64),
    "inception4c": (128, 128, 256, 24, 64, 64),
    "inception4d": (112, 144, 288, 32, 64, 64),
    "inception4e": (256, 160, 320, 32, 128, 128),
    "inception5a": (256, 160, 320, 32, 128, 128),
    "inception5b": (384, 192, 384, 48, 128, 128),
}


class GoogLeNet(nn.Module):
    """Three convolutions, then nine modules in three stages, with poolings between.

    Attributes:
      norm: makes every normalization; the epsilon is 1e-3 unless it binds one.
      checkpoint: the backward pass computes each stage again.

    Endpoints: `conv1`, `conv2`, `conv3`, `inception3a`, …, `inception5b`, before any pooling behind
    them.

    Reference: Szegedy et al. 2015, table 1. Differs: batch norm in the place of local response
    normalization, poolings round up in size, and the last one is 2x2, as in torchvision.
    """

    norm: Callable[..., nn.Module] = BatchNorm
    checkpoint: bool = False

    @nn.compact
    def __call__(self, images, *, train: bool) -> dict:
        pool = partial(max_pool, window=3, stride=2, ceil_mode=True)
        endpoints = run_stage(self, GoogLeNet._run_stem, images, train=train)
        for stage, first in ((3, "conv3"), (4, "inception3b"), (5, "inception4e")):
            x = pool(endpoints[first], window=2 if stage == 5 else 3)
            endpoints |= run_stage(self, GoogLeNet._run_stage, x, stage=stage, train=train)
        return endpoints

    def _run_stem(self, x, train):
        unit = partial(ConvUnit, norm=self.norm)
        conv1 = unit(64, 7, 2, name="conv1")(x, train=train)
        x = max_pool(conv1, 3, 2, ceil_mode=True)
        conv2 = unit(64, 1, name="conv2")(x, train=train)
        conv3 = unit(192, 3, name="conv3")(conv2, train=train)
        return {"conv1": conv1, "conv2": conv2, "conv3": conv3}

    def _run_stage(self, x, stage, train):
        endpoints = {}
        for name, features in MODULES.items():
            if name.startswith(f"inception{stage}"):
                module = Inception(features, partial(ConvUnit, norm=self.norm), name=name)
                x = endpoints[name] = module(x, train=train)
        return endpoints


class AuxiliaryHead(nn.Module):
    """Means of 4x4 bins, a 1x1 convolution, a hidden dense layer, dropout, a dense layer.

    Reference: Szegedy et al. 2015, section 5. Differs: bins in the place of a 5x5 window of stride
    3, and batch norm behind the convolution, as in torchvision.
    """

    num_classes: int
    norm: Callable[..., nn.Module] = BatchNorm

    @nn.compact
    def __call__(self, x, *, train: bool):  # [B, H, W, C] -> [B, num_classes]
        x = ConvUnit(128, 1, norm=self.norm, name="conv")(adaptive_average_pool(x, 4), train=train)
        x = relu(Dense(1024, name="dense1")(flatten(x)))
        x = Dropout(0.7, name="dropout")(x, train=train)
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        return Dense(self.num_classes, name="head")(x)


MODELS = {
    "googlenet": Entry(
        GoogLeNet,
        defaults={
            "dropout": 0.2,
            "auxiliary": (("inception4a", AuxiliaryHead), ("inception4d", AuxiliaryHead)),
        },
    )
}
