"""Inception v3: large kernels taken apart into rows and columns.

Reference: Szegedy, Vanhoucke, Ioffe, Shlens, Wojna 2016, "Rethinking the Inception architecture for
computer vision".
"""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax.numpy as jnp

from ..layers import BatchNorm, Dense, run_stage
from ..ops import average_pool, global_average_pool, max_pool
from .entry import Entry
from .googlenet import ConvUnit

Unit = partial(ConvUnit, kernel_init=nn.initializers.truncated_normal(0.1))

# A branch is a chain of functions and of convolutions: (features, kernel size) and, where it is 2,
# the stride; those are not padded. Two convolutions in the place of one stand side by side.
ROW, COLUMN = (1, 7), (7, 1)


def average(x):
    return average_pool(x, 3, 1, padding=1)


def maximum(x):
    return max_pool(x, 3, 2)


def mixed5(pooled: int):
    """1x1, 5x5, two 3x3, pooling; figure 5 has another two 3x3 in the place of 5x5."""
    return (
        ("branch1x1", [(64, 1)]),
        ("branch5x5", [(48, 1), (64, 5)]),
        ("branch3x3dbl", [(64, 1), (96, 3), (96, 3)]),
        ("branch_pool", [average, (pooled, 1)]),
    )


def mixed6(width: int):
    """Figure 6: 1x1, 7x7 and two 7x7 in rows and columns, pooling."""
    double = [(width, 1), (width, COLUMN), (width, ROW), (width, COLUMN), (192, ROW)]
    return (
        ("branch1x1", [(192, 1)]),
        ("branch7x7", [(width, 1), (width, ROW), (192, COLUMN)]),
        ("branch7x7dbl", double),
        ("branch_pool", [average, (192, 1)]),
    )


FORK = ((384, (1, 3)), (384, (3, 1)))
MIXED7 = (  # figure 7: 1x1, a 3x3 and two 3x3 whose last is a row and a column, pooling
    ("branch1x1", [(320, 1)]),
    ("branch3x3", [(384, 1), FORK]),
    ("branch3x3dbl", [(448, 1), (384, 3), FORK]),
    ("branch_pool", [average, (192, 1)]),
)
REDUCTION6 = (  # figure 10
    ("branch3x3", [(384, 3, 2)]),
    ("branch3x3dbl", [(64, 1), (96, 3), (96, 3, 2)]),
    ("branch_pool", [maximum]),
)
REDUCTION7 = (
    ("branch3x3", [(192, 1), (320, 3, 2)]),
    ("branch7x7x3", [(192, 1), (192, ROW), (192, COLUMN), (192, 3, 2)]),
    ("branch_pool", [maximum]),
)

STAGES = (  # table 1
    (("mixed5b", mixed5(32)), ("mixed5c", mixed5(64)), ("mixed5d", mixed5(64))),
    (
        ("mixed6a", REDUCTION6),
        ("mixed6b", mixed6(128)),
        ("mixed6c", mixed6(160)),
        ("mixed6d", mixed6(160)),
        ("mixed6e", mixed6(192)),
    ),
    (("mixed7a", REDUCTION7), ("mixed7b", MIXED7), ("mixed7c", MIXED7)),
)


class Mixed(nn.Module):
    """Branches side by side, as one of the tables above describes them.

    Submodules: `branch1x1` for a branch of one convolution, `branch5x5_1`, `branch5x5_2`, … for
    more, `branch3x3_2a` and `branch3x3_2b` for two side by side.
    """

    branches: tuple
    norm: Callable[..., nn.Module] = BatchNorm

    @nn.compact
    def __call__(self, x, *, train: bool):
        def convolve(x, name, features, kernel_size, stride=1):
            padding = 0 if stride == 2 else None
            unit = Unit(features, kernel_size, stride, padding, self.norm, name=name)
            return unit(x, train=train)

        results = []
        for branch, chain in self.branches:
            y, number = x, 0
            several = sum(not callable(part) for part in chain) > 1
            for part in chain:
                if callable(part):
                    y = part(y)
                    continue
                number += 1
                name = f"{branch}_{number}" if several else branch
                if part == FORK:
                    sides = [convolve(y, name + side, *conv) for side, conv in zip("ab", FORK)]
                    y = jnp.concatenate(sides, 3)
                else:
                    y = convolve(y, name, *part)
            results.append(y)
        return jnp.concatenate(results, 3)


class InceptionV3(nn.Module):
    """Five convolutions and two poolings, then eleven modules in three stages.

    Attributes:
      norm: makes every normalization; the epsilon is 1e-3 unless it binds one.
      checkpoint: the backward pass computes each stage again.

    Endpoints: `conv1a`, `conv2a`, `conv2b`, `conv3b`, `conv4a`, `mixed5b`, …, `mixed7c`. Images
    have at least 75x75 pixels, and 299x299 by default; see `AuxiliaryHead` for its least.

    Reference: Szegedy et al. 2016, table 1. Differs: the stem has a 1x1 and a 3x3 convolution
    before the second pooling, and `mixed5` a branch of 5x5, as in the authors' code and in
    torchvision.
    """

    norm: Callable[..., nn.Module] = BatchNorm
    checkpoint: bool = False

    @nn.compact
    def __call__(self, images, *, train: bool) -> dict:
        endpoints = run_stage(self, InceptionV3._run_stem, images, train=train)
        x = maximum(endpoints["conv4a"])
        for modules in STAGES:
            endpoints |= run_stage(self, InceptionV3._run_stage, x, modules=modules, train=train)
            x = endpoints[modules[-1][0]]
        return endpoints

    def _run_stem(self, x, train):
        unit = partial(Unit, norm=self.norm)
        endpoints = {}
        x = endpoints["conv1a"] = unit(32, 3, 2, padding=0, name="conv1a")(x, train=train)
        x = endpoints["conv2a"] = unit(32, 3, padding=0, name="conv2a")(x, train=train)
        x = endpoints["conv2b"] = unit(64, 3, name="conv2b")(x, train=train)
        x = endpoints["conv3b"] = unit(80, 1, name="conv3b")(maximum(x), train=train)
        endpoints["conv4a"] = unit(192, 3, padding=0, name="conv4a")(x, train=train)
        return endpoints

    def _run_stage(self, x, modules, train):
        endpoints = {}
        for name, branches in modules:
            x = endpoints[name] = Mixed(branches, self.norm, name=name)(x, train=train)
        return endpoints


class AuxiliaryHead(nn.Module):
    """Means of 5x5 windows of stride 3, a 1x1 and a 5x5 convolution, and a dense layer.

    Its windows fit into images of at least 299x299 pixels; for smaller ones make the model with
    `auxiliary=()`.

    Reference: Szegedy et al. 2016, section 4 and figure 8.
    """

    num_classes: int
    norm: Callable[..., nn.Module] = BatchNorm

    @nn.compact
    def __call__(self, x, *, train: bool):  # [B, H, W, C] -> [B, num_classes]
        unit = partial(Unit, norm=self.norm)
        x = unit(128, 1, name="conv1")(average_pool(x, 5, 3), train=train)
        x = unit(768, 5, padding=0, name="conv2")(x, train=train)
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        return Dense(self.num_classes, name="head")(global_average_pool(x))


MODELS = {
    "inception_v3": Entry(
        InceptionV3,
        (299, 299, 3),
        defaults={"dropout": 0.5, "auxiliary": (("mixed6e", AuxiliaryHead),)},
    )
}
