"""How a step is compiled and placed on one device or many."""

from .caching import cache_compilations, report_first_call
from .compilation import CompiledStep, compile
from .memory import keep_memory
from .placement import create_mesh, gather, process_share, require_divisible
from .processes import (
    broadcast_arrays,
    connect,
    detect_cluster,
    ending_together,
    first_decides,
    is_connected,
    is_first,
    stopping,
    wait_for_others,
)

__all__ = [
    "CompiledStep",
    "broadcast_arrays",
    "cache_compilations",
    "compile",
    "connect",
    "create_mesh",
    "detect_cluster",
    "ending_together",
    "first_decides",
    "gather",
    "is_connected",
    "is_first",
    "keep_memory",
    "process_share",
    "report_first_call",
    "require_divisible",
    "stopping",
    "wait_for_others",
]
