"""The handler that XLA calls: it runs a row of prepared oneDNN operations.

XLA calls it on threads of its own, several at a time. It must not wait for Python's interpreter
lock, so numba compiles it; what to do it reads from rows of numbers that Python wrote before:

    number of bindings, number of operations,
    for each binding:   memory, buffer (operands first, then results), offset in it in bytes
    for each operation: primitive, number of its arguments, their address

One mutex guards it all: a primitive must not run twice at a time, and each uses every core.

The layout of XLA's structures is that of `xla/ffi/api/c_api.h`, versions 0.3 to 0.5.
"""

import ctypes
import re
import threading
from functools import cache
from pathlib import Path

import jax
import jaxlib
import numpy as np

TARGET = "convnets_onednn"
KNOWN = ((0, 3), (0, 4), (0, 5))  # versions of the interface whose layout was read
CELLS = 2**15  # of the table: twice the different convolutions that one process can have

# Offsets in bytes. In a call frame:
EXTENSION, API, OPERANDS, RESULTS, ATTRIBUTES = 8, 16, 40, 80, 120
# in its operands, results and attributes:
COUNT, ITEMS, VALUES = 16, 32, 40
# in a buffer, a scalar, an extension, what it asks for, and the table of XLA's functions:
DATA, VALUE, KIND, METADATA, VERSION, TRAITS, STATE, CREATE_ERROR = 24, 8, 8, 24, 24, 32, 40, 48
METADATA_KIND, ERROR_SIZE, INTERNAL = 1, 32, 13


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


class Full(Exception):
    """The table has no room for another convolution."""


class Table:
    """Rows by their keys: an open hash table in memory, which the handler reads."""

    def __init__(self):
        self.cells = np.zeros((CELLS, 2), np.int64)  # a key, and the address of its row
        self.mutex = np.zeros(8, np.int64)  # a pthread_mutex_t
        self.message = ctypes.create_string_buffer(
            b"oneDNN could not run a convolution, or the program was compiled in another process"
        )
        self.rows = {}
        self.lock = threading.Lock()

    def add(self, key: int, row: np.ndarray) -> None:
        """Makes a row known. It is never moved or taken away again."""
        with self.lock:
            if key in self.rows:  # another thread was first; the handler may be reading its row
                return
            if 2 * len(self.rows) >= CELLS:
                raise Full
            self.rows[key] = row
            place = key % CELLS
            while self.cells[place, 1]:
                place = (place + 1) % CELLS
            self.cells[place, 0] = key
            self.cells[place, 1] = row.ctypes.data


def register(library: ctypes.CDLL, stream: int) -> Table:
    """Compiles the handler, registers it with XLA, and returns the table that it reads."""
    table = Table()
    table.handler = _compile(library, stream, table)  # kept as long as the table
    capsule = jax.ffi.pycapsule(table.handler.address)
    jax.ffi.register_ffi_target(TARGET, capsule, platform="cpu")
    return table


def _compile(library, stream, table):
    import numba

    load, store, call = _memory_access()
    lock, unlock, bind, execute, wait = _functions(library)
    cells, mutex = table.cells.ctypes.data, table.mutex.ctypes.data
    version = _interface()[0] | _interface()[1] << 32
    error = np.array([ERROR_SIZE, 0, ctypes.addressof(table.message), INTERNAL])
    table.error = error
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
        key = load(load(load(load(frame + ATTRIBUTES + VALUES)) + VALUE))
        place = key % CELLS
        while load(cells + 16 * place + 8) != 0 and load(cells + 16 * place) != key:
            place = (place + 1) % CELLS
        row = load(cells + 16 * place + 8)
        status = 1
        if row != 0:
            operands = load(frame + OPERANDS + COUNT)
            lock(mutex)
            item = row + 16
            status = 0
            for _ in range(load(row)):
                index = load(item + 8)
                if index < operands:
                    buffer = load(load(frame + OPERANDS + ITEMS) + 8 * index)
                else:
                    buffer = load(load(frame + RESULTS + ITEMS) + 8 * (index - operands))
                status |= bind(load(item), load(buffer + DATA) + load(item + 16))
                item += 24
            for _ in range(load(row + 8)):
                status |= execute(load(item), stream, load(item + 8), load(item + 16))
                item += 24
            status |= wait(stream)
            unlock(mutex)
        if status != 0:
            return call(load(load(frame + API) + CREATE_ERROR), error_address)
        return 0

    return handler


def _functions(library):
    """C functions that numba can call; pointers are 64-bit integers, as everywhere here."""
    word, number, process = ctypes.c_int64, ctypes.c_int32, ctypes.CDLL(None)

    def function(source, name, *arguments):
        address = ctypes.cast(getattr(source, name), ctypes.c_void_p).value
        return ctypes.CFUNCTYPE(number, *arguments)(address)

    return (
        function(process, "pthread_mutex_lock", word),
        function(process, "pthread_mutex_unlock", word),
        function(library, "dnnl_memory_set_data_handle", word, word),
        function(library, "dnnl_primitive_execute", word, word, number, word),
        function(library, "dnnl_stream_wait", word),
    )


def _memory_access():
    """In compiled code: 64 bits at an address, read and written, and a function there, called."""
    from llvmlite import ir
    from numba import types
    from numba.extending import intrinsic

    word = ir.IntType(64)

    @intrinsic
    def load(typing, address):
        def emit(context, builder, signature, values):
            return builder.load(builder.inttoptr(values[0], word.as_pointer()))

        return types.int64(types.int64), emit

    @intrinsic
    def store(typing, address, value):
        def emit(context, builder, signature, values):
            builder.store(values[1], builder.inttoptr(values[0], word.as_pointer()))
            return context.get_dummy_value()

        return types.void(types.int64, types.int64), emit

    @intrinsic
    def call(typing, function, argument):
        def emit(context, builder, signature, values):
            kind = ir.FunctionType(word, [word]).as_pointer()
            return builder.call(builder.inttoptr(values[0], kind), [values[1]])

        return types.int64(types.int64, types.int64), emit

    return load, store, call
