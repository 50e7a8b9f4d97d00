"""How a step is compiled and placed on one device or many."""

from .caching import cache_compilations, report_first_call
from .compilation import CompiledStep, compile
from .local_sgd import average_local_steps
from .memory import keep_memory
from .placement import create_mesh, gather, require_divisible

__all__ = [
    "CompiledStep",
    "average_local_steps",
    "cache_compilations",
    "compile",
    "create_mesh",
    "gather",
    "keep_memory",
    "report_first_call",
    "require_divisible",
]
