"""Weights of other libraries: their names and layouts, read, written and compared."""

from .importing import export_torch, import_torch
from .parity import Report, compare_layers, format_report
from .references import Reference, read_reference, read_weights

__all__ = [
    "Reference",
    "Report",
    "compare_layers",
    "export_torch",
    "format_report",
    "import_torch",
    "read_reference",
    "read_weights",
]
