"""How a step is compiled and placed on one device or many."""

from .caching import cache_compilations, report_first_call
from .compilation import CompiledStep, compile
from .memory import keep_memory
from .partition import (
    Rules,
    bytes_per_device,
    create_in_parts,
    is_parted,
    parameter_specs,
    require_axes,
    state_shardings,
)
from .placement import create_mesh, data_parts, gather, require_divisible

__all__ = [
    "CompiledStep",
    "Rules",
    "bytes_per_device",
    "cache_compilations",
    "compile",
    "create_in_parts",
    "create_mesh",
    "data_parts",
    "gather",
    "is_parted",
    "keep_memory",
    "parameter_specs",
    "report_first_call",
    "require_axes",
    "require_divisible",
    "state_shardings",
]
