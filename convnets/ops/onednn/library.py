"""The shared library of oneDNN: found when first needed, and opened once.

It is looked for in the environment's own `lib` folder, where the wheel `onednn-cpu-gomp` puts it,
and where the system's loader looks. Without it, without numba, on another kind of machine, with
another major version or an interface of XLA's that was never read there is none, and convolutions
are lowered in another way.
"""

import ctypes
import importlib.util
import platform
import sys
import threading
from functools import cache
from pathlib import Path
from typing import NamedTuple

import jax

from . import frame, handler

NAME = "libdnnl.so.3"
CPU, IN_ORDER, OPENMP = 1, 1, 2


class Library(NamedTuple):
    """An open library, its one stream, and the rows that its registered handler reads."""

    functions: ctypes.CDLL
    version: str
    engine: ctypes.c_void_p
    table: handler.Table


class Unsupported(Exception):
    """What oneDNN refuses, or what is not trusted to it."""


def check(status: int) -> None:
    if status:
        raise Unsupported(f"oneDNN answered with status {status}")


def available() -> bool:
    """Whether convolutions can be given to oneDNN in this process."""
    return library() is not None


def version() -> str | None:
    """The version of the library that was found, as `3.2.0`, or None."""
    return None if library() is None else library().version


def library() -> Library | None:
    """The library, ready to be called; None where there is none that was tried."""
    with _OPENING:
        return _find()


_OPENING = threading.Lock()  # XLA takes one handler of a name


@cache
def _find():
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        return None
    if importlib.util.find_spec("numba") is None or not frame.is_known_interface():
        return None
    for path in (Path(sys.prefix) / "lib" / NAME, NAME):
        try:
            return _open(ctypes.CDLL(str(path)))
        except (OSError, AttributeError, ImportError, jax.errors.JaxRuntimeError, Unsupported):
            continue
    return None


class _Version(ctypes.Structure):
    _fields_ = (
        ("major", ctypes.c_int),
        ("minor", ctypes.c_int),
        ("patch", ctypes.c_int),
        ("hash", ctypes.c_char_p),
        ("cpu_runtime", ctypes.c_uint),
        ("gpu_runtime", ctypes.c_uint),
    )


def _require_every_thread(functions):
    """A kernel made for more threads than run it may wait for the others for ever."""
    fewer = functions.omp_get_thread_limit() < functions.omp_get_max_threads()
    if fewer or functions.omp_get_dynamic() or functions.omp_get_max_active_levels() < 1:
        raise Unsupported


def _open(functions) -> Library:
    functions.dnnl_version.restype = ctypes.POINTER(_Version)
    found = functions.dnnl_version().contents
    if found.major != 3 or found.cpu_runtime != OPENMP:
        raise Unsupported
    functions.dnnl_primitive_desc_query_md.restype = ctypes.c_void_p
    functions.dnnl_memory_desc_get_size.restype = ctypes.c_size_t
    engine, stream = ctypes.c_void_p(), ctypes.c_void_p()
    check(functions.dnnl_engine_create(ctypes.byref(engine), CPU, ctypes.c_size_t(0)))
    check(functions.dnnl_stream_create(ctypes.byref(stream), engine, IN_ORDER))
    functions.GOMP_parallel  # noqa: B018  the threads that loops are run by
    _require_every_thread(functions)
    table = handler.register(functions, stream.value)
    return Library(functions, f"{found.major}.{found.minor}.{found.patch}", engine, table)
