"""Weights of other libraries: their files, names and layouts, and pretrained models by name."""

from .files import read_state_dict, write_safetensors
from .importing import export_torch, import_torch
from .preprocessing import (
    Preprocessing,
    crop_center,
    describe_preprocessing,
    imagenet_classes,
    preprocess,
)
from .pretrained import Pretrained, adapt_input, load_pretrained
from .releases import list_pretrained

__all__ = [
    "Preprocessing",
    "Pretrained",
    "adapt_input",
    "crop_center",
    "describe_preprocessing",
    "export_torch",
    "imagenet_classes",
    "import_torch",
    "list_pretrained",
    "load_pretrained",
    "preprocess",
    "read_state_dict",
    "write_safetensors",
]
