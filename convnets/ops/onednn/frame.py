"""The call frame that XLA hands to a function of ours, and compiled code that reads it.

XLA calls such a function on threads of its own, several at a time. It must not wait for Python's
interpreter lock, so numba compiles it; in it addresses are 64-bit integers.

The layout of XLA's structures is that of `xla/ffi/api/c_api.h`, versions 0.3 to 0.5.
"""

import ctypes
import re
from functools import cache
from pathlib import Path

import jax
import jaxlib
import numpy as np

KNOWN = ((0, 3), (0, 4), (0, 5))  # versions of the interface whose layout was read

# Offsets in bytes. In a call frame:
EXTENSION, API, OPERANDS, RESULTS, ATTRIBUTES = 8, 16, 40, 80, 120
# in its operands, results and attributes:
COUNT, ITEMS, VALUES = 16, 32, 40
# in a buffer, a scalar, an array, an extension, what it asks for, and the table of XLA's functions:
DATA = 24
VALUE = 8
ELEMENTS = 16
KIND, METADATA = 8, 24
VERSION, TRAITS, STATE = 24, 32, 40
CREATE_ERROR = 48
METADATA_KIND, ERROR_SIZE, INTERNAL = 1, 32, 13

MUTEX = np.zeros(8, np.int64)  # a pthread_mutex_t, for all of them: each call uses every core


def is_known_interface() -> bool:
    """Whether the installed jaxlib states a version of XLA's interface whose layout was read."""
    return _interface() in KNOWN


@cache
def _interface() -> tuple[int, int] | None:
    header = Path(jaxlib.__file__).parent / "include/xla/ffi/api/c_api.h"
    try:
        text = header.read_text()
    except OSError:
        return None
    found = [re.search(rf"define XLA_FFI_API_{part} (\d+)", text) for part in ("MAJOR", "MINOR")]
    return tuple(int(match[1]) for match in found) if all(found) else None


def register(target: str, run, message: str):
    """Registers with XLA what `run(frame)`, compiled, does, and returns the function to be kept.

    `run` answers with 0, or else the program ends with the message.
    """
    import numba

    if numba.config.DISABLE_JIT:
        raise ImportError("numba is switched off")

    from .memory import call, load, store

    version = _interface()[0] | _interface()[1] << 32
    text = ctypes.create_string_buffer(message.encode())
    error = np.array([ERROR_SIZE, 0, ctypes.addressof(text), INTERNAL])
    error_address = error.ctypes.data

    @numba.cfunc(numba.int64(numba.int64))
    def handler(frame):
        extension = load(frame + EXTENSION)
        if extension != 0 and load(extension + KIND) & 0xFFFFFFFF == METADATA_KIND:
            metadata = load(extension + METADATA)
            store(metadata + VERSION, version)
            store(metadata + TRAITS, 0)
            store(metadata + STATE, 0)
            return 0
        if run(frame) != 0:
            return call(load(load(frame + API) + CREATE_ERROR), error_address)
        return 0

    jax.ffi.register_ffi_target(target, jax.ffi.pycapsule(handler.address), platform="cpu")
    return handler, text, error


def c_function(library: ctypes.CDLL | None, name: str, *arguments):
    """A C function that compiled code can call; None for the process's own libraries."""
    source = getattr(library or ctypes.CDLL(None), name)
    address = ctypes.cast(source, ctypes.c_void_p).value
    return ctypes.CFUNCTYPE(ctypes.c_int32, *arguments)(address)


def mutex_functions():
    """In compiled code: to lock and to unlock a mutex, given its address."""
    names = "pthread_mutex_lock", "pthread_mutex_unlock"
    return [c_function(None, name, ctypes.c_int64) for name in names]
