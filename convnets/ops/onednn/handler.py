"""The handler that XLA calls: it runs a row of prepared oneDNN operations.

What to do it reads from rows of numbers that Python wrote before:

    number of bindings, number of operations,
    for each binding:   memory, buffer (operands first, then results), offset in it in bytes
    for each operation: primitive, number of its arguments, their address

One mutex guards it all: a primitive must not run twice at a time, and each uses every core.
"""

import ctypes
import threading

import numpy as np

from .frame import (
    ATTRIBUTES,
    COUNT,
    DATA,
    ITEMS,
    MUTEX,
    OPERANDS,
    RESULTS,
    VALUE,
    VALUES,
    c_function,
    mutex_functions,
)
from .frame import register as register_with_xla

TARGET = "convnets_onednn"
CELLS = 2**15  # of the table: twice the different convolutions that one process can have


class Full(Exception):
    """The table has no room for another convolution."""


class Table:
    """Rows by their keys: an open hash table in memory, which the handler reads."""

    def __init__(self):
        self.cells = np.zeros((CELLS, 2), np.int64)  # a key, and the address of its row
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
    table.handler = register_with_xla(
        TARGET,
        _compile(library, stream, table.cells.ctypes.data),
        "oneDNN could not run a convolution, or the program was compiled in another process",
    )
    return table


def _compile(library, stream, cells):
    import numba

    from .memory import load

    lock, unlock = mutex_functions()
    bind, execute, wait = _functions(library)
    mutex = MUTEX.ctypes.data

    @numba.njit
    def run(frame):
        key = load(load(load(load(frame + ATTRIBUTES + VALUES)) + VALUE))
        place = key % CELLS
        while load(cells + 16 * place + 8) != 0 and load(cells + 16 * place) != key:
            place = (place + 1) % CELLS
        row = load(cells + 16 * place + 8)
        if row == 0:
            return 1
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
        return status

    return run


def _functions(library):
    word, number = ctypes.c_int64, ctypes.c_int32
    return (
        c_function(library, "dnnl_memory_set_data_handle", word, word),
        c_function(library, "dnnl_primitive_execute", word, word, number, word),
        c_function(library, "dnnl_stream_wait", word),
    )
