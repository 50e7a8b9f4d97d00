"""Flax modules, and the small functions that go with them."""

from .activations import (
    PReLU,
    elu,
    gelu,
    hard_sigmoid,
    hard_swish,
    leaky_relu,
    relu,
    relu6,
    scaled_tanh,
    selu,
    sigmoid,
    silu,
    tanh,
)
from .checkpointing import run_stage
from .convolution import Conv, ConvTranspose, Dense
from .dropout import DropConnect, Dropout, DropPath, depth_rates
from .initializers import (
    constant,
    glorot_normal,
    glorot_uniform,
    he_normal,
    he_uniform,
    lecun_normal,
    lecun_uniform,
    normal,
    ones,
    zeros,
)
from .local import LocallyConnected, TiledConv
from .normalization import (
    BatchNorm,
    LayerNorm,
    group_batch_norm,
    switch_batch_norm,
    with_epsilon,
)
from .squeeze_excitation import SqueezeExcitation

__all__ = [
    "BatchNorm",
    "Conv",
    "ConvTranspose",
    "Dense",
    "DropConnect",
    "DropPath",
    "Dropout",
    "LayerNorm",
    "LocallyConnected",
    "PReLU",
    "SqueezeExcitation",
    "TiledConv",
    "constant",
    "depth_rates",
    "elu",
    "gelu",
    "glorot_normal",
    "glorot_uniform",
    "group_batch_norm",
    "hard_sigmoid",
    "hard_swish",
    "he_normal",
    "he_uniform",
    "leaky_relu",
    "lecun_normal",
    "lecun_uniform",
    "normal",
    "ones",
    "relu",
    "relu6",
    "run_stage",
    "scaled_tanh",
    "selu",
    "sigmoid",
    "silu",
    "switch_batch_norm",
    "tanh",
    "with_epsilon",
    "zeros",
]
