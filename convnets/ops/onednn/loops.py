"""Loops of our own beside oneDNN's convolutions: sums over channels, and max pooling.

They are parts of a network that oneDNN has not, or has without our rules for ties and NaN. numba
compiles them when they are first needed, and keeps them on disk.

A loop is given the address of two words: the first holds XLA's call frame, the second counts the
parts that were begun. Every thread runs it, and takes one part after the other. What a part does
depends on its number alone, so that results do not depend on how many threads there are.
"""

import pickle
from functools import cache

import numba
import numpy as np
from numba.core.caching import NullCache

from .frame import ATTRIBUTES, DATA, ELEMENTS, ITEMS, OPERANDS, RESULTS, VALUES
from .memory import count_up, load, pointer, widen

BLOCK = 256  # rows that are summed one after the other; the sums of blocks are summed again
FEW = 16  # channels, which do not fill a vector

# What numba keeps is valid until this file changes: with this line it does when those two do.
LAYOUT = "6da3d5371e47db2a"  # digest of frame.py and memory.py


def _can_be_kept():
    """Whether there is a folder in which numba can keep what it compiled."""
    try:
        numba.njit(cache=True)(_can_be_kept)
    except RuntimeError:
        return False
    return True


OPTIONS = {"error_model": "numpy", "fastmath": {"contract", "nsz"}}
KEPT = _can_be_kept()
_compiled = []


def compiled(function):
    _compiled.append(numba.njit(cache=KEPT, **OPTIONS)(function))
    return _compiled[-1]


@compiled
def operand(words, index):
    """The address of an operand."""
    return pointer(load(load(load(load(words) + OPERANDS + ITEMS) + 8 * index) + DATA))


@compiled
def result(words, index):
    """The address of a result."""
    return pointer(load(load(load(load(words) + RESULTS + ITEMS) + 8 * index) + DATA))


@compiled
def four_numbers(words, index):
    """Four of the numbers that the call was made with."""
    attributes = load(load(words) + ATTRIBUTES + VALUES)
    place = load(load(attributes + 8) + ELEMENTS) + 8 * index
    return load(place), load(place + 8), load(place + 16), load(place + 24)


@compiled
def next_part(words):
    return count_up(words + 8)


def weigh_float32(words):
    weigh(words, np.float32)


def weigh_bfloat16(words):
    weigh(words, np.uint16)


@compiled
def weigh(words, kind):
    """The sums of `weights * (x - mean)` and of `weights` over the rows of each part."""
    rows, channels, parts, _ = four_numbers(words, 0)
    weights = numba.carray(operand(words, 0), (rows, channels), kind)
    x = numba.carray(operand(words, 1), (rows, channels), kind)
    mean = numba.carray(operand(words, 2), (channels,), np.float32)
    sums = numba.carray(result(words, 0), (parts, 4, channels), np.float32)
    each = (rows + parts - 1) // parts
    part = next_part(words)
    while part < parts:
        sums[part] = 0
        products, totals, block_products, block_totals = sums[part]
        last = min(rows, (part + 1) * each)
        for start in range(part * each, last, BLOCK):
            for row in range(start, min(last, start + BLOCK)):
                for c in range(channels):
                    weight = widen(weights[row, c])
                    block_products[c] += weight * (widen(x[row, c]) - mean[c])
                    block_totals[c] += weight
            for c in range(channels):
                products[c] += block_products[c]
                totals[c] += block_totals[c]
                block_products[c] = 0
                block_totals[c] = 0
        part = next_part(words)


@compiled
def maximum_of_rows(x, first, best, rows):
    """`[rows, W * C]` to `[W * C]`, and in which row, counted from `first`, it was."""
    for i in range(best.size):
        best[i] = x[0, i]
        rows[i] = first
    for row in range(1, x.shape[0]):
        here = np.uint8(first + row)
        for i in range(best.size):
            value = x[row, i]
            better = (value > best[i]) | (value != value)  # NaN stays
            best[i] = value if better else best[i]
            rows[i] = here if better else rows[i]


@compiled
def maximum_of_columns(best, rows, low, stride, length, y, places):
    """`[W, C]` to `[W', C]`, and which place in the window it was."""
    by = np.uint8(length)
    for j in range(y.shape[0]):
        start = j * stride - low
        first, last = max(0, start), min(best.shape[0], start + length)
        for c in range(y.shape[1]):
            y[j, c] = best[first, c]
            places[j, c] = rows[first, c] * by + np.uint8(first - start)
        for column in range(first + 1, last):
            for c in range(y.shape[1]):
                value = best[column, c]
                place = np.uint8(rows[column, c] * by + np.uint8(column - start))
                first_here = (value == y[j, c]) & (place < places[j, c])
                better = (value > y[j, c]) | (value != value) | first_here
                y[j, c] = value if better else y[j, c]
                places[j, c] = place if better else places[j, c]


@compiled
def maximum_at_every_column(best, rows, length, channels, y, places):
    """`[W * C]` to the same for windows that begin at every column. For few channels this and a
    choice among the windows is faster, as neighbouring columns fill the vectors."""
    by = np.uint8(length)
    for i in range(y.size):
        y[i] = best[i]
        places[i] = rows[i] * by
    for column in range(1, length):
        values = best[column * channels : column * channels + y.size]
        its_rows = rows[column * channels : column * channels + y.size]
        for i in range(y.size):
            value = values[i]
            place = np.uint8(its_rows[i] * by + np.uint8(column))
            first_here = (value == y[i]) & (place < places[i])
            better = (value > y[i]) | (value != value) | first_here
            y[i] = value if better else y[i]
            places[i] = place if better else places[i]


@compiled
def choose_columns(best, places_there, stride, y, places):
    """`[W, C]` to `[W', C]`."""
    for j in range(y.shape[0]):
        for c in range(y.shape[1]):
            y[j, c] = best[j * stride, c]
            places[j, c] = places_there[j * stride, c]


def max_pool(words):
    """Maxima of windows, row by row of the result, and their places in the window."""
    batch, height, width, channels = four_numbers(words, 0)
    window_height, row_stride, top, out_height = four_numbers(words, 4)
    window_width, column_stride, left, out_width = four_numbers(words, 8)
    parts = four_numbers(words, 12)[0]
    shape = batch, out_height, out_width, channels
    x = numba.carray(operand(words, 0), (batch, height, width * channels), np.float32)
    y = numba.carray(result(words, 0), shape, np.float32)
    places = numba.carray(result(words, 1), shape, np.uint8)
    best = numba.carray(result(words, 2), (parts, 2, width * channels), np.float32)
    rows = numba.carray(result(words, 3), (parts, 2, width * channels), np.uint8)
    starts = max(0, width - window_width + 1)  # columns at which a window may begin
    inside = left == 0 and (out_width - 1) * column_stride < starts
    each = (batch + parts - 1) // parts
    part = next_part(words)
    while part < parts:
        best_here, rows_here = best[part, 0], rows[part, 0]
        end = starts * channels
        best_there, rows_there = best[part, 1, :end], rows[part, 1, :end]
        shape = width, channels
        found = best_here.reshape(shape), rows_here.reshape(shape)
        shape = starts, channels
        everywhere = best_there.reshape(shape), rows_there.reshape(shape)
        for image in range(part * each, min(batch, (part + 1) * each)):
            for i in range(out_height):
                start = i * row_stride - top
                first, last = max(0, start), min(height, start + window_height)
                into = y[image, i], places[image, i]
                maximum_of_rows(x[image, first:last], first - start, best_here, rows_here)
                if inside and channels < FEW:
                    sizes = window_width, channels
                    maximum_at_every_column(best_here, rows_here, *sizes, best_there, rows_there)
                    choose_columns(*everywhere, column_stride, *into)
                else:
                    maximum_of_columns(*found, left, column_stride, window_width, *into)
        part = next_part(words)


def put(words):
    """Gradients of maxima, added up where their places are; zero elsewhere."""
    batch, height, width, channels = four_numbers(words, 0)
    _, row_stride, top, out_height = four_numbers(words, 4)
    window_width, column_stride, left, out_width = four_numbers(words, 8)
    parts = four_numbers(words, 12)[0]
    shape = batch, out_height, out_width, channels
    gradient = numba.carray(operand(words, 0), shape, np.float32)
    places = numba.carray(operand(words, 1), shape, np.uint8)
    into = numba.carray(result(words, 0), (batch, height, width, channels), np.float32)
    by = np.uint8(window_width)
    each = (batch + parts - 1) // parts
    part = next_part(words)
    while part < parts:
        for image in range(part * each, min(batch, (part + 1) * each)):
            into[image] = 0
            for i in range(out_height):
                for j in range(out_width):
                    for c in range(channels):
                        place = places[image, i, j, c]
                        row = i * row_stride - top + place // by
                        column = j * column_stride - left + place % by
                        if 0 <= row < height and 0 <= column < width:
                            into[image, row, column, c] += gradient[image, i, j, c]
        part = next_part(words)


# Programs name a loop by its number here: only ever append.
LOOPS = (weigh_float32, weigh_bfloat16, max_pool, put)


def address(loop) -> int:
    """Where the machine code of a loop is."""
    return _compile(loop).address


@cache
def _compile(loop):
    signature = numba.void(numba.int64)
    try:
        return numba.cfunc(signature, cache=KEPT, **OPTIONS)(loop)
    except (OSError, EOFError, pickle.UnpicklingError):  # a file is cut off, or cannot be written
        for function in _compiled:
            function._cache = NullCache()
        return numba.cfunc(signature, **OPTIONS)(loop)
