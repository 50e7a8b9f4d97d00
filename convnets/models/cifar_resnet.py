"""Residual and plain networks for 32x32 images, of every depth 6k + 2.

`cifar_resnet20` has the paper's parameter-free shortcuts (option A), `cifar_resnet20_projection`
projections where the shape changes (option B), `cifar_plain20` none. In all else they are one.

Reference: He, Zhang, Ren, Sun 2015, "Deep residual learning for image recognition", section 4.2.
"""

import re
from functools import partial

import jax.numpy as jnp

from ..errors import UserError
from ..layers import ones
from .entry import Entry
from .resnet import UNBRANCHED, BasicBlock, PlainBlock, ResNet


def subsample_and_pad(x, features: int, stride: int, **_):
    """A shortcut without parameters: every `stride`-th pixel, and channels of zeros at the end.

    Reference: option A of He et al. 2015, section 4.1.
    """
    x = x[:, ::stride, ::stride]
    return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, features - x.shape[3])))


def stem3x3(x, features: int, *, conv, norm, train: bool):
    """One 3x3 convolution."""
    return conv(features, 3, name="conv1")(x)


def keep(x):
    """No pooling behind the stem."""
    return x


BLOCKS = {
    "cifar_plain{}": PlainBlock,
    "cifar_resnet{}": partial(BasicBlock, shortcut=subsample_and_pad, last_scale_init=ones),
    "cifar_resnet{}_projection": partial(BasicBlock, last_scale_init=ones),
}


def entry(depth: int, block) -> Entry:
    """Three stages of (depth - 2) / 6 blocks, 16, 32 and 64 wide, behind a 3x3 convolution."""
    backbone = partial(
        ResNet,
        stage_sizes=(depth // 6,) * 3,
        block=block,
        features=16,
        stem=stem3x3,
        stem_pool=keep,
    )
    if block is PlainBlock:
        backbone = partial(backbone, **UNBRANCHED)
    return Entry(backbone, (32, 32, 3), 10)


def find(name: str) -> Entry | None:
    """The entry of any depth of up to four digits, None where the name is not of this family.

    Raises: UserError for a depth that is not 6k + 2, with the nearest that is.
    """
    for form, block in BLOCKS.items():
        match = re.fullmatch(form.format("([1-9][0-9]{0,3})"), name)
        if match:
            depth = int(match[1])
            if depth < 8 or depth % 6 != 2:
                nearest = form.format(6 * max(1, round((depth - 2) / 6)) + 2)
                raise UserError(f"{name!r}: depths are 6k + 2, from 8; try {nearest!r}")
            return entry(depth, block)
    return None


MODELS = {
    form.format(depth): entry(depth, block)
    for form, block in BLOCKS.items()
    for depth in (8, 20, 32, 44, 56, 110)
} | {"cifar_resnet1202": entry(1202, BLOCKS["cifar_resnet{}"])}
