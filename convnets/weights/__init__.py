"""Weights of other libraries: files, names and layouts, parity, pretrained models by name."""

from .files import read_state_dict, write_safetensors
from .importing import export_torch, import_torch
from .parity import Report, compare_layers, format_report
from .preprocessing import (
    Preprocessing,
    crop_center,
    describe_preprocessing,
    imagenet_classes,
    preprocess,
)
from .pretrained import Pretrained, adapt_input, load_pretrained
from .references import Reference, read_reference, read_weights
from .releases import list_pretrained

__all__ = [
    "Preprocessing",
    "Pretrained",
    "Reference",
    "Report",
    "adapt_input",
    "compare_layers",
    "crop_center",
    "describe_preprocessing",
    "export_torch",
    "format_report",
    "imagenet_classes",
    "import_torch",
    "list_pretrained",
    "load_pretrained",
    "preprocess",
    "read_reference",
    "read_state_dict",
    "read_weights",
    "write_safetensors",
]
