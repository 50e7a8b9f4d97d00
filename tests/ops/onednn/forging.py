"""Calls of compiled handlers as XLA makes them, with buffers that have guards around them."""

import ctypes

import numpy as np

from convnets.ops.onednn import frame

GUARD, PATTERN = 8192, 0xA5


def guarded(size):
    """Bytes with a guard before and behind them, and a check that both are whole."""
    room = np.full(size + 2 * GUARD + 64, PATTERN, np.uint8)
    start = GUARD + -(room.ctypes.data + GUARD) % 64
    room[start : start + size] = 0

    def is_whole():
        return (room[:start] == PATTERN).all() and (room[start + size :] == PATTERN).all()

    return room[start : start + size], is_whole


@ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)
def create_error(arguments):
    return 1


FUNCTIONS = np.zeros(64, np.int64)  # XLA's, of which the handler calls one
FUNCTIONS[frame.CREATE_ERROR // 8] = ctypes.cast(create_error, ctypes.c_void_p).value


def call_forged(handler, operands, results, key, numbers=()):
    """The status that a handler returns for a forged call frame, whose attributes are a scalar and
    an array of numbers."""

    def addresses(words):
        return np.array([word.ctypes.data for word in words], np.int64)

    def buffers(arrays):
        return [np.array([48, 0, 0, array.ctypes.data, 0, 0]) for array in arrays]

    of_operands, of_results = buffers(operands), buffers(results)
    operand_items, result_items = addresses(of_operands), addresses(of_results)
    value, numbers = np.array([key], np.int64), np.array(numbers, np.int64)
    scalar = np.array([0, value.ctypes.data])
    array = np.array([0, numbers.size, numbers.ctypes.data])
    values = addresses([scalar, array])
    call = np.zeros(22, np.int64)
    call[frame.API // 8] = FUNCTIONS.ctypes.data
    call[7], call[9] = len(operands), operand_items.ctypes.data
    call[12], call[14] = len(results), result_items.ctypes.data
    call[20] = values.ctypes.data
    return handler.ctypes(call.ctypes.data)
