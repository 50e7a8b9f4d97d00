"""On what numbers were found: the processor, the cores, the devices, the versions."""

import importlib.metadata
import os
import platform
from pathlib import Path

import jax

VERSIONS_OF = ("jax", "jaxlib", "flax", "optax", "convnets")


def describe_hardware() -> dict:
    """The processor, the cores that this process may use, and the devices that JAX computes on."""
    devices = [device.device_kind for device in jax.devices()]
    return {"processor": _processor(), "cores": count_cores(), "devices": devices}


def describe_versions() -> dict:
    """The versions of Python and of the packages that the numbers depend on."""
    packages = {name: importlib.metadata.version(name) for name in VERSIONS_OF}
    return {"python": platform.python_version(), **packages}


def count_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _processor():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
