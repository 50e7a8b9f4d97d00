"""How fast a network is: throughput, compile time, memory, and ratios against its peers."""

from .archiving import require_writable, write_json
from .display import format_measurement, format_memory
from .environment import describe_hardware, describe_versions
from .measurement import PEERS, foretell, measure
from .workloads import MODES, PRECISIONS, Workload, create_workload

__all__ = [
    "MODES",
    "PEERS",
    "PRECISIONS",
    "Workload",
    "create_workload",
    "describe_hardware",
    "describe_versions",
    "foretell",
    "format_measurement",
    "format_memory",
    "measure",
    "require_writable",
    "write_json",
]
