"""What each result of a program depends on: marks that are passed on by its operations.

A mark is a number; of all the marks that a result is computed from, the least is kept. The greatest
is had by a change of sign.
"""

import math

import numpy as np
from jax.extend.core import Literal

from ..errors import UserError
from .tracing import programs_of

ELEMENTWISE = frozenset(
    """abs add and clamp convert_element_type copy cos div eq erf erfc exp exp2 expm1 floor ge gt
    integer_pow is_finite le log log1p logistic lt max min mul ne neg not or pow round rsqrt
    select_n sign sin sqrt square stop_gradient sub tanh""".split()  # noqa: SIM905
)
OPENED = ("jit", "pjit", "remat2", "checkpoint", "custom_jvp_call", "custom_vjp_call")


def least_marks(program, marks):
    """The least mark that each output of a program is computed from, None where it is none.

    Args:
      program: a `Jaxpr`.
      marks: of each input, floats that broadcast to its shape, with all its axes; or None. An axis
        along which all marks are the same has one entry only.

    Raises: UserError for an operation that is not known here.

    >>> program = jax.make_jaxpr(lambda x: x[1:] + x[:-1])(np.zeros(4)).jaxpr
    >>> least_marks(program, [np.arange(4.0)])[0].tolist()
    [0.0, 1.0, 2.0]
    """
    values = dict(zip(program.invars, marks))
    values.update((variable, None) for variable in program.constvars)
    for equation in program.eqns:
        inputs = [None if isinstance(v, Literal) else values[v] for v in equation.invars]
        if all(mark is None for mark in inputs):
            outputs = [None] * len(equation.outvars)
        elif equation.primitive.name in OPENED:
            (inner,) = programs_of(equation)
            outputs = least_marks(inner, inputs)
        else:
            outputs = _pass_on(equation, inputs)
        values.update(zip(equation.outvars, outputs))
    return [None if isinstance(v, Literal) else values[v] for v in program.outvars]


def _pass_on(equation, inputs):
    """The marks of one operation's results."""
    name, params = equation.primitive.name, equation.params
    shapes = [variable.aval.shape for variable in equation.invars]
    if name in ELEMENTWISE:
        return [_join(inputs)]
    if name == "split":
        ends = np.cumsum(params["sizes"])
        return [
            _cut(inputs[0], params["axis"], slice(end - size, end))
            for size, end in zip(params["sizes"], ends)
        ]
    if name in RULES:
        return [RULES[name](inputs, shapes, **params)]
    if name.startswith(("reduce_", "arg")) and "axes" in params and "window" not in name:
        return [inputs[0].min(tuple(params["axes"]))]
    raise UserError(f"receptive fields are not known through the operation {name}")


def _join(marks):
    marks = [mark for mark in marks if mark is not None]
    result = marks[0]
    for mark in marks[1:]:
        result = np.minimum(result, mark)
    return result


def _cut(mark, axis, part):
    """A part of an axis, which is left alone where all of it has one mark."""
    return mark if mark.shape[axis] == 1 else mark[(slice(None),) * axis + (part,)]


def _windows(mark, axis, taps, outputs, stride, low, dilation=1):
    """The least of each window of an axis."""
    if mark.shape[axis] == 1:
        return mark
    places = np.arange(outputs)[:, None] * stride - low + np.arange(taps) * dilation
    inside = (places >= 0) & (places < mark.shape[axis])
    seen = np.take(mark, np.where(inside, places, 0), axis)
    shape = [1] * mark.ndim
    shape[axis : axis + 1] = places.shape
    return np.where(inside.reshape(shape), seen, np.inf).min(axis + 1)


def _convolution(inputs, shapes, *, window, **_):
    mark = _of_images_alone(inputs).min(3, keepdims=True)
    windows = zip(shapes[1], window.stride, window.padding, window.dilation)
    for axis, one in enumerate(windows, 1):
        mark = _any_window(mark, shapes[0][axis], axis, *one)
    return mark


def _general_convolution(
    inputs, shapes, *, window_strides, padding, lhs_dilation, rhs_dilation, dimension_numbers, **_
):
    """That of `flax.linen.Conv`."""
    numbers = dimension_numbers
    if max(lhs_dilation) > 1 or numbers.lhs_spec != numbers.out_spec:
        raise UserError("receptive fields are not known through transposed convolutions")
    mark = _of_images_alone(inputs).min(numbers.lhs_spec[1], keepdims=True)
    windows = zip(window_strides, padding, rhs_dilation)
    for axis, side, window in zip(numbers.lhs_spec[2:], numbers.rhs_spec[2:], windows):
        mark = _any_window(mark, shapes[0][axis], axis, shapes[1][side], *window)
    return mark


def _reduce_window(
    inputs, shapes, *, window_dimensions, window_strides, padding, window_dilation, **_
):
    mark = _of_images_alone(inputs)
    windows = zip(window_dimensions, window_strides, padding, window_dilation)
    for axis, window in enumerate(windows):
        mark = _any_window(mark, shapes[0][axis], axis, *window)
    return mark


def _any_window(mark, size, axis, taps, stride, pads, dilation):
    outputs = (size + sum(pads) - (taps - 1) * dilation - 1) // stride + 1
    return _windows(mark, axis, taps, outputs, stride, pads[0], dilation)


def _maxima(inputs, shapes, *, rows, columns):
    mark = inputs[0]
    for axis, one in ((1, rows), (2, columns)):
        mark = _windows(mark, axis, one.length, one.outputs, one.stride, one.low)
    return mark


def _of_images_alone(inputs):
    if any(mark is not None for mark in inputs[1:]):
        raise UserError("receptive fields are not known where a kernel is computed from the image")
    return inputs[0]


def _slice(inputs, shapes, *, start_indices, limit_indices, strides):
    mark = inputs[0]
    for axis, (start, limit) in enumerate(zip(start_indices, limit_indices)):
        mark = _cut(mark, axis, slice(start, limit, strides[axis] if strides else 1))
    return mark


def _pad(inputs, shapes, *, padding_config):
    mark = _of_images_alone(inputs)
    for axis, (low, high, between) in enumerate(padding_config):
        if mark.shape[axis] > 1:
            size = (shapes[0][axis] - 1) * (between + 1) + 1
            places = np.arange(-low, size + high)
            inside = (places >= 0) & (places < size) & (places % (between + 1) == 0)
            mark = np.take(mark, np.where(inside, places // (between + 1), 0), axis)
            mark = np.where(inside.reshape(-1, *[1] * (mark.ndim - 1 - axis)), mark, np.inf)
    return mark


def _concatenate(inputs, shapes, *, dimension):
    """Channels, the last axis, count as one."""
    known = [np.full((1,) * len(shapes[0]), np.inf) if mark is None else mark for mark in inputs]
    if dimension == len(shapes[0]) - 1 and all(mark.shape[dimension] == 1 for mark in known):
        return _join(known)
    sizes = [max(along) for along in zip(*(mark.shape for mark in known))]
    parts = []
    for mark, shape in zip(known, shapes):
        sizes[dimension] = shape[dimension]
        parts.append(np.broadcast_to(mark, sizes))
    return np.concatenate(parts, dimension)


def _stack(inputs, shapes, *, axis, **_):
    known = [np.full((1,) * len(shapes[0]), np.inf) if mark is None else mark for mark in inputs]
    return np.stack(np.broadcast_arrays(*known), axis)


def _tile(inputs, shapes, *, reps, **_):
    mark = inputs[0]
    return np.tile(mark, [1 if size == 1 else rep for size, rep in zip(mark.shape, reps)])


def _reshape(inputs, shapes, *, new_sizes, **_):
    """Neighboring axes are reshaped together; several that become one share one mark."""
    mark, middle, last = inputs[0], [], []
    ins, outs = list(shapes[0]), list(new_sizes)
    axis = 0
    while ins or outs:
        group, made = [ins.pop(0)] if ins else [], [outs.pop(0)] if outs else []
        while math.prod(group) != math.prod(made):
            smaller, rest = (group, ins) if math.prod(group) < math.prod(made) else (made, outs)
            smaller.append(rest.pop(0))
        axes = tuple(range(axis, axis + len(group)))
        axis += len(group)
        if len(made) == 1 and sum(size > 1 for size in group) > 1:
            mark = mark.min(axes, keepdims=True)
        uniform = all(mark.shape[a] == 1 for a in axes)
        middle += [1] * len(group) if uniform else group
        last += [1] * len(made) if uniform else made
    return np.broadcast_to(mark, middle).reshape(last)


def _broadcast_in_dim(inputs, shapes, *, shape, broadcast_dimensions, **_):
    mark = inputs[0]
    sizes = [1] * len(shape)
    for axis, size in zip(broadcast_dimensions, mark.shape):
        sizes[axis] = size
    return mark.reshape(sizes)


def _dot_general(inputs, shapes, *, dimension_numbers, **_):
    """A result sees what either side sees along what is contracted."""
    contracted, batched = dimension_numbers
    free = [
        [axis for axis in range(len(shape)) if axis not in (*contracted[side], *batched[side])]
        for side, shape in enumerate(shapes)
    ]
    marks = []
    for side, mark in enumerate(inputs):
        if mark is not None:
            mark = mark.min(tuple(contracted[side]), keepdims=True)
            mark = mark.transpose(*batched[side], *free[side], *contracted[side])
            kept, end = len(batched[side]), len(batched[side]) + len(free[side])
            batch, own, other = mark.shape[:kept], mark.shape[kept:end], (1,) * len(free[1 - side])
            both = (*other, *own) if side else (*own, *other)
            marks.append(mark.reshape(*batch, *both))
    return _join(marks)


RULES = {
    "broadcast_in_dim": _broadcast_in_dim,
    "concatenate": _concatenate,
    "conv_general_dilated": _general_convolution,
    "convolution": _convolution,
    "dot_general": _dot_general,
    "maxima": _maxima,
    "pad": _pad,
    "reduce_window_max": _reduce_window,
    "reduce_window_sum": _reduce_window,
    "reshape": _reshape,
    "slice": _slice,
    "squeeze": lambda inputs, shapes, *, dimensions: inputs[0].squeeze(dimensions),
    "stack": _stack,
    "tile": _tile,
    "transpose": lambda inputs, shapes, *, permutation: inputs[0].transpose(permutation),
}
