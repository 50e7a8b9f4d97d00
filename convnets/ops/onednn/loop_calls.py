"""Calls of the loops in compiled programs."""

import ctypes
import threading
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np

from .frame import ATTRIBUTES, MUTEX, VALUE, VALUES, c_function, mutex_functions, register
from .library import library

TARGET = "convnets_loop"
PARTS = 16  # enough for as many threads
ROWS = 256  # of a part at least


def weigh_channels(weights, x, mean):
    """The sums of `weights * (x - mean)` and of `weights` in float32: `[…, C]`, `[…, C]`, `[C]` to
    `[C]`, `[C]`. Weights and x are both in float32 or both in bfloat16."""
    channels = x.shape[-1]
    rows = x.size // channels
    parts = min(PARTS, -(-rows // ROWS))
    sums = jax.ShapeDtypeStruct((parts, 4, channels), jnp.float32)  # two are for its own use
    call = _call(f"weigh_{x.dtype}", [sums], rows, channels, parts, 0)
    found = call(weights, x, mean)[0].sum(0)
    return found[0], found[1]


def max_pool(x, rows, columns):
    """The maximum of each window of float32 `[B, H, W, C]`, and its place in the window, uint8.

    `rows` and `columns` are windows as `pooling` has them. Of several maxima the first counts, row
    by row, of several NaN any.
    """
    shape = x.shape[0], rows.outputs, columns.outputs, x.shape[3]
    parts = min(PARTS, x.shape[0])
    results = [
        jax.ShapeDtypeStruct(shape, jnp.float32),
        jax.ShapeDtypeStruct(shape, jnp.uint8),
        jax.ShapeDtypeStruct((parts, 2, *x.shape[2:]), jnp.float32),  # for its own use,
        jax.ShapeDtypeStruct((parts, 2, *x.shape[2:]), jnp.uint8),  # the maxima of columns
    ]
    return _call("max_pool", results, *_numbers(x.shape, rows, columns), parts, 0, 0, 0)(x)[:2]


def put(gradient, places, size, rows, columns):
    """The gradient of `max_pool` by images of that size, from that by its result."""
    shape = gradient.shape[0], *size, gradient.shape[3]
    parts = min(PARTS, shape[0])
    results = [jax.ShapeDtypeStruct(shape, jnp.float32)]
    call = _call("put", results, *_numbers(shape, rows, columns), parts, 0, 0, 0)
    return call(gradient, places)[0]


def _numbers(shape, rows, columns):
    described = [(w.length, w.stride, w.low, w.outputs) for w in (rows, columns)]
    return *shape, *described[0], *described[1]


def _call(name, results, *numbers):
    index, numbers = np.int64(_prepare(name)), np.array(numbers, np.int64)
    call = jax.ffi.ffi_call(TARGET, results)
    return lambda *operands: call(*operands, loop=index, numbers=numbers)


_addresses = np.zeros(8, np.int64)  # of machine code; zero where it has not been needed
_preparing = threading.Lock()


def _prepare(name: str) -> int:
    """The number of a loop, whose machine code is there from now on."""
    from . import loops

    names = [loop.__name__ for loop in loops.LOOPS]
    index = names.index(name)
    with _preparing:
        _register()
        _addresses[index] = loops.address(loops.LOOPS[index])
    return index


@cache
def _register():
    """Tells XLA of the function that has a loop run by the threads that oneDNN runs on, too."""
    import numba

    from .memory import load, store

    lock, unlock = mutex_functions()
    word = ctypes.c_int64
    share = c_function(library().functions, "GOMP_parallel", word, word, ctypes.c_int32, word)
    mutex, addresses = MUTEX.ctypes.data, _addresses.ctypes.data
    words = np.zeros(2, np.int64)
    shared = words.ctypes.data

    @numba.njit
    def run(frame):
        index = load(load(load(load(frame + ATTRIBUTES + VALUES)) + VALUE))
        loop = load(addresses + 8 * index)
        if loop == 0:
            return 1
        lock(mutex)
        store(shared, frame)
        store(shared + 8, 0)
        share(loop, shared, 0, 0)
        unlock(mutex)
        return 0

    return register(TARGET, run, "the program was compiled in another process"), words
