"""Weights of other libraries: their names and layouts, read, written and compared."""

from .importing import export_torch, import_torch

__all__ = ["export_torch", "import_torch"]
