"""How a step is compiled and placed on one device or many."""

from .caching import cache_compilations, report_first_call
from .compilation import CompiledStep, compile
from .local_sgd import average_local_steps
from .memory import keep_memory
from .partition import (
    Rules,
    bytes_per_device,
    create_sharded,
    is_sharded,
    parameter_specs,
    require_axes,
    state_shardings,
)
from .placement import create_mesh, data_parts, gather, process_share, require_divisible
from .processes import (
    all_agree,
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
    "Rules",
    "all_agree",
    "average_local_steps",
    "broadcast_arrays",
    "bytes_per_device",
    "cache_compilations",
    "compile",
    "connect",
    "create_mesh",
    "create_sharded",
    "data_parts",
    "detect_cluster",
    "ending_together",
    "first_decides",
    "gather",
    "is_connected",
    "is_first",
    "is_sharded",
    "keep_memory",
    "parameter_specs",
    "process_share",
    "report_first_call",
    "require_axes",
    "require_divisible",
    "state_shardings",
    "stopping",
    "wait_for_others",
]
