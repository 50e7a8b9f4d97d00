"""Stacks of stages: a bank of filters, what follows it, and pooling; of Jarrett and others."""

from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from ..layers import Conv, constant, lecun_normal, run_stage, tanh
from ..ops import average_pool, local_contrast_normalization, max_pool
from .entry import Entry
from .lenet import PartialConv

POOLS = {"average": average_pool, "max": max_pool}


class StageSize(NamedTuple):
    """How large one stage is.

    Attributes:
      maps: feature maps out.
      kernel_size: height and width of the filters.
      pool, stride: side of the pooled windows, and pixels from one to the next.
      seen: maps of the stage before that each map combines; None for all of them.
    """

    maps: int
    kernel_size: int
    pool: int
    stride: int
    seen: int | None = None


# Section 4 of the paper: of 143x143 pixels 64 maps of 26x26 are made, and of these 256 of 4x4.
FIRST = StageSize(maps=64, kernel_size=9, pool=10, stride=5)
SECOND = StageSize(maps=256, kernel_size=9, pool=6, stride=4, seen=16)


class Stage(nn.Module):
    """One stage: filters, tanh and gain; rectification; contrast normalization; pooling.

    `F_CSG`: `y_j = g_j tanh(sum_i k_ij * x_i)`, no padding; `R_abs`: `|y|`; `N`:
    `ops.local_contrast_normalization`; `P_A` or `P_M`: the mean (the boxcar) or the maximum of
    overlapping windows.

    Attributes:
      size: maps, filters and pooling.
      rectify: whether there is an R_abs.
      normalize: whether there is an N.
      pool: "average" or "max".
      table_seed: of the random choice of maps that each map combines, where it is not all.

    Parameters: `filters/kernel`, `gain [maps]`, 1 at first.

    Raises: ValueError for another pool, or more maps to see than there are.

    Reference: Jarrett, Kavukcuoglu, Ranzato, LeCun 2009, "What is the best multi-stage
    architecture for object recognition?", section 2. Differs: which maps are combined is drawn
    anew, since the paper has no table of them; filters start at variance 1 / fan_in, of which the
    paper tells nothing.

    >>> Stage(FIRST).init_with_output(jax.random.key(0), jnp.ones((1, 143, 143, 1)))[0].shape
    (1, 26, 26, 64)
    """

    size: StageSize
    rectify: bool = True
    normalize: bool = True
    pool: str = "average"
    table_seed: int = 0

    @nn.compact
    def __call__(self, x):  # [B, H, W, C] -> [B, H', W', maps]
        if self.pool not in POOLS:
            raise ValueError(f"pool is one of {sorted(POOLS)}, came {self.pool!r}")
        maps, kernel_size, pool, stride, seen = self.size
        if seen is None:
            options = dict(padding=0, use_bias=False, kernel_init=lecun_normal())
            filters = Conv(maps, kernel_size, name="filters", **options)
        else:
            table = random_connections(maps, seen, x.shape[3], self.table_seed)
            filters = PartialConv(table, kernel_size, use_bias=False, name="filters")
        gain = self.param("gain", constant(1.0), (maps,), jnp.float32).astype(x.dtype)
        x = gain.reshape(1, 1, 1, -1) * tanh(filters(x))
        if self.rectify:
            x = jnp.abs(x)
        if self.normalize:
            x = local_contrast_normalization(x)
        return POOLS[self.pool](x, pool, stride)


class Stages(nn.Module):
    """Stages one after the other, all of one kind.

    Attributes:
      sizes: of each stage.
      checkpoint: the backward pass computes each stage again.
      rectify, normalize, pool, table_seed: those of every `Stage`.

    Endpoints: `stage1`, `stage2`, …, `[B, 26, 26, 64]` and `[B, 4, 4, 256]` for 143x143 pixels.

    Reference: Jarrett et al. 2009, section 4.1 and table 1: rectification, normalization and
    average pooling are best (65.5 % of Caltech-101 with two stages learned without labels and
    refined, 62.9 % with random filters). Differs: the paper's images are normalized beforehand,
    by `ops.local_contrast_normalization`; here that is left to whoever prepares them.

    >>> digits = (StageSize(16, 5, 4, 2), StageSize(32, 5, 2, 1, seen=4))
    >>> Stages(digits).init_with_output(
    ...     jax.random.key(0), jnp.ones((1, 28, 28, 1)), train=False)[0]["stage2"].shape
    (1, 6, 6, 32)
    """

    sizes: tuple[StageSize, ...] = (FIRST, SECOND)
    rectify: bool = True
    normalize: bool = True
    pool: str = "average"
    table_seed: int = 0
    checkpoint: bool = False

    @nn.compact
    def __call__(self, images, *, train: bool) -> dict:
        x, endpoints = images, {}
        for number, size in enumerate(self.sizes, 1):
            x = run_stage(self, Stages._run_stage, x, size=StageSize(*size), name=f"stage{number}")
            endpoints[f"stage{number}"] = x
        return endpoints

    def _run_stage(self, x, size, name):
        options = (self.rectify, self.normalize, self.pool, self.table_seed)
        return Stage(size, *options, name=name)(x)


def random_connections(maps: int, seen: int, channels: int, seed: int = 0):
    """For each map, `seen` different ones of the channels, drawn at random, sorted.

    Raises: ValueError for more than there are.

    >>> random_connections(3, 2, 4)
    ((2, 3), (0, 1), (0, 3))
    """
    if not 1 <= seen <= channels:
        raise ValueError(f"a map cannot combine {seen} of {channels} maps")
    rng = np.random.default_rng(seed)
    choices = [rng.choice(channels, seen, replace=False) for _ in range(maps)]
    return tuple(tuple(sorted(choice.tolist())) for choice in choices)


# The columns of table 1, and F_CSG - P_M of section 2.1, by what follows the filters.
KINDS = {
    "abs_norm_average": dict(rectify=True, normalize=True, pool="average"),
    "abs_average": dict(rectify=True, normalize=False, pool="average"),
    "norm_max": dict(rectify=False, normalize=True, pool="max"),
    "norm_average": dict(rectify=False, normalize=True, pool="average"),
    "average": dict(rectify=False, normalize=False, pool="average"),
    "max": dict(rectify=False, normalize=False, pool="max"),
}


MODELS = {
    f"jarrett{stages}_{name}": Entry(
        partial(Stages, sizes=(FIRST, SECOND)[:stages], **kind),
        (143, 143, 1),
        101,
        defaults={"pool": "flatten"},
    )
    for stages in (1, 2)
    for name, kind in KINDS.items()
}
