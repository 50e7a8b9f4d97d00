"""Weights of other libraries: their files, names and layouts, and pretrained models by name."""

from .files import read_state_dict, write_safetensors

__all__ = ["read_state_dict", "write_safetensors"]
