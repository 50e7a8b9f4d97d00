"""Weights of other libraries: their files, names and layouts, and pretrained models by name."""

from .files import read_state_dict, write_safetensors
from .preprocessing import (
    Preprocessing,
    crop_center,
    describe_preprocessing,
    imagenet_classes,
    preprocess,
)

__all__ = [
    "Preprocessing",
    "crop_center",
    "describe_preprocessing",
    "imagenet_classes",
    "preprocess",
    "read_state_dict",
    "write_safetensors",
]
