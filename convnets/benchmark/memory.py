"""Memory: what a program needs, what there is, and the largest batch that fits."""

import os
import re
import resource
from pathlib import Path
from typing import NamedTuple

import jax

from ..errors import UserError
from .workloads import Program, Workload, compile_program

SMALL = (32, 64)  # batches compiled to predict the others; below, programs are other ones
CONTROL_GROUPS = Path("/sys/fs/cgroup")


class Prediction(NamedTuple):
    """What a workload will need, known before anything is run.

    Attributes:
      peak_bytes: of the whole program at the workload's own batch size.
      fixed_bytes, bytes_per_image: the line through the two batches that were compiled.
      available_bytes: what there is.
      largest_batch: that fits; 0 where not even one image does.
    """

    peak_bytes: int
    fixed_bytes: int
    bytes_per_image: int
    available_bytes: int
    largest_batch: int


def predict_memory(workload: Workload) -> Prediction:
    """Compiles the workload with two small batches, and draws the line through their needs."""
    few, more = SMALL
    bytes_of = [program_bytes(compile_program(workload._replace(batch_size=n))) for n in SMALL]
    slope = (bytes_of[1] - bytes_of[0]) / (more - few)
    fixed = bytes_of[0] - slope * few
    available = available_bytes()
    return Prediction(
        peak_bytes=round(fixed + slope * workload.batch_size),
        fixed_bytes=round(fixed),
        bytes_per_image=round(slope),
        available_bytes=available,
        largest_batch=max(int((available - fixed) // slope), 0),
    )


def program_bytes(program: Program) -> int:
    """Arguments, results and temporary values of a program, what is donated counted once."""
    return analyzed_bytes(program.compiled)


def analyzed_bytes(compiled: jax.stages.Compiled) -> int:
    """The same of any compiled function."""
    memory = compiled.memory_analysis()
    return (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        + memory.temp_size_in_bytes
        - memory.alias_size_in_bytes
    )


def require_memory(program: Program) -> None:
    """Refuses to start a program for which there is not enough memory.

    A computer that runs out of it ends the process without a word.

    Raises: UserError.
    """
    needed, available = program_bytes(program), available_bytes()
    if needed > available:
        raise UserError(
            f"a batch of {program.workload.batch_size} needs {needed / 1e9:.1f} GB of memory and "
            f"there are {available / 1e9:.1f}; --memory tells the largest batch that fits"
        )


def available_bytes() -> int:
    """Memory that can still be had: of the first accelerator, or else of this process."""
    statistics = jax.devices()[0].memory_stats() or {}
    if "bytes_limit" in statistics:
        return statistics["bytes_limit"] - statistics.get("bytes_in_use", 0)
    limits = [_control_group_bytes(), _system_bytes()]
    return min(limit for limit in limits if limit is not None)


def peak_bytes(program: Program) -> int:
    """The most memory that a program which has run took: as an accelerator measured it for the
    whole process, else as the compiler planned it."""
    statistics = jax.devices()[0].memory_stats() or {}
    return statistics.get("peak_bytes_in_use") or program_bytes(program)


def reset_process_peak() -> None:
    """Lets the process's peak start anew from what it holds now, where the system can do that."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def process_peak_bytes() -> int:
    """The most memory that the process has held since `reset_process_peak`, or since its start."""
    try:
        found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        found = None
    if found:
        return int(found[1]) * 1024
    unit = 1 if os.uname().sysname == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _system_bytes() -> int:
    try:
        found = re.search(r"MemAvailable:\s*(\d+) kB", Path("/proc/meminfo").read_text())
    except OSError:
        found = None
    if found:
        return int(found[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _control_group_bytes() -> int | None:
    """What the container's limit leaves, None without one; its file cache counts as free."""
    for limit, used, cache in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            limit_bytes = int((CONTROL_GROUPS / limit).read_text())
            used_bytes = int((CONTROL_GROUPS / used).read_text())
            statistics = (CONTROL_GROUPS / limit).with_name("memory.stat").read_text()
        except (OSError, ValueError):  # no such file, or "max"
            continue
        found = re.search(rf"^{cache} (\d+)$", statistics, re.MULTILINE)
        return limit_bytes - used_bytes + (int(found[1]) if found else 0)
    return None
