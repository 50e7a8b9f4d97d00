"""Flax modules, and the small functions that go with them."""

from .activations import PReLU, elu, leaky_relu, relu, scaled_tanh, selu, sigmoid, tanh
from .convolution import Conv, Dense
from .dropout import Dropout
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
from .normalization import BatchNorm

__all__ = [
    "BatchNorm",
    "Conv",
    "Dense",
    "Dropout",
    "PReLU",
    "constant",
    "elu",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "leaky_relu",
    "lecun_normal",
    "lecun_uniform",
    "normal",
    "ones",
    "relu",
    "scaled_tanh",
    "selu",
    "sigmoid",
    "tanh",
    "zeros",
]
