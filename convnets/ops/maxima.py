"""The maximum of each window and its place, and images read and written at such places.

Reading is linear, and writing is its transpose, so that derivatives of any order are made of the
two. On the CPU maxima and writing are loops of our own, where they can be called.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from .collective import vary_alike
from .lowerings import run_compiled, takes_calls
from .onednn import loop_calls

PLACES = 255  # of a window at most, for bytes to tell them and its width apart


def maxima(x, rows, columns):
    """`[B, H, W, C]`, float32, to the maximum of each window `[B, H', W', C]`.

    `rows` and `columns` are windows as `pooling` has them, of `PLACES` pixels at most. The
    derivative of a maximum is that of the first place where it is, row by row; among several NaN it
    is that of any.
    """
    return maxima_p.bind(x, rows=rows, columns=columns)[0]


maxima_p, read_p, write_p = map(Primitive, ("maxima", "read_places", "write_places"))
maxima_p.multiple_results = True


def _read(x, places, rows, columns):
    """Each window's pixel at its place: `[B, H, W, C]`, `[B, H', W', C]` to `[B, H', W', C]`."""
    return read_p.bind(*vary_alike(x, places), rows=rows, columns=columns)


def _write(values, places, rows, columns):
    """Values added up at their windows' places: `[B, H', W', C]` twice to `[B, H, W, C]`."""
    return write_p.bind(*vary_alike(values, places), rows=rows, columns=columns)


def _pixels(x, rows, columns, filling):
    """Places, and the pixel that each window has there: `(k, [B, H', W', C])`."""
    edges = [(w.low, max(0, _reach(w) - w.size - w.low), 0) for w in (rows, columns)]
    x = lax.pad(x, jnp.asarray(filling, x.dtype), [(0, 0, 0), *edges, (0, 0, 0)])
    for row in range(rows.length):
        for column in range(columns.length):
            start = 0, row, column, 0
            bottom = row + _reach(rows) - rows.length + 1
            right = column + _reach(columns) - columns.length + 1
            stop = x.shape[0], bottom, right, x.shape[3]
            pixel = lax.slice(x, start, stop, (1, rows.stride, columns.stride, 1))
            inside = np.outer(_is_inside(rows, row), _is_inside(columns, column))
            yield row * columns.length + column, pixel, inside[None, :, :, None]


def _reach(window):
    """Pixels from the start of the first window to the end of the last."""
    return (window.outputs - 1) * window.stride + window.length


def _is_inside(window, pixel):
    """Of each window, whether a pixel of it is one of the image, and not of its padding."""
    places = np.arange(window.outputs) * window.stride - window.low + pixel
    return (places >= 0) & (places < window.size)


def _maxima(x, rows, columns):
    best, places, seen = -jnp.inf, jnp.uint8(0), np.zeros((), bool)
    for place, pixel, inside in _pixels(x, rows, columns, -jnp.inf):
        better = (pixel > best) | jnp.isnan(pixel) | (inside & ~seen)
        seen = seen | inside
        best = jnp.where(better, pixel, best)
        places = jnp.where(better, jnp.uint8(place), places)
    return best, places


def _read_pixels(x, places, rows, columns):
    y = 0
    for place, pixel, _ in _pixels(x, rows, columns, 0):
        y = jnp.where(places == place, pixel, y)
    return y


def _write_pixels(values, places, rows, columns):
    shape = values.shape[0], rows.size, columns.size, values.shape[3]
    read = partial(_read_pixels, places=places, rows=rows, columns=columns)
    images = jax.typeof(values).update(shape=shape)  # spread over devices as the values are
    return jax.linear_transpose(read, images)(values)[0]


# Derivatives, batching and lowering -------------------------------------------------------------


def _batch(primitive, args, axes, **windows):
    """vmap is a larger batch."""
    count = next(a.shape[axis] for a, axis in zip(args, axes) if axis is not None)
    args = [batching.bdim_at_front(a, axis, count) for a, axis in zip(args, axes)]
    joined = [a.reshape(count * a.shape[1], *a.shape[2:]) for a in args]
    results = primitive.bind(*joined, **windows)

    def part(y):
        return y.reshape(args[0].shape[:2] + y.shape[1:])

    if primitive.multiple_results:
        return list(map(part, results)), [0] * len(results)
    return part(results), 0


def _lower_on_cpu(function, loop, context, *operands, rows, columns):
    x = context.avals_in[0]
    called = loop if takes_calls(context) and x.dtype == jnp.float32 else function
    called = partial(called, rows=rows, columns=columns)
    multiple = len(context.avals_out) > 1
    return mlir.lower_fun(called, multiple_results=multiple)(context, *operands)


def _define(primitive, function, result, loop=None):
    run_compiled(primitive)
    primitive.def_abstract_eval(result)
    batching.primitive_batchers[primitive] = partial(_batch, primitive)
    lower = mlir.lower_fun(function, multiple_results=primitive.multiple_results)
    mlir.register_lowering(primitive, lower)
    if loop is not None:
        mlir.register_lowering(primitive, partial(_lower_on_cpu, function, loop), platform="cpu")


def _pooled(x, *, rows, columns):
    y = x.update(shape=(x.shape[0], rows.outputs, columns.outputs, x.shape[3]), weak_type=False)
    return [y, y.update(dtype=jnp.dtype(jnp.uint8))]


def _image(values, places, *, rows, columns):
    return values.update(shape=(values.shape[0], rows.size, columns.size, values.shape[3]))


def _write_in_a_loop(values, places, rows, columns):
    return loop_calls.put(values, places, (rows.size, columns.size), rows, columns)


_define(maxima_p, _maxima, _pooled, loop_calls.max_pool)
_define(read_p, _read_pixels, lambda x, places, **_: x.update(shape=places.shape))
_define(write_p, _write_pixels, _image, _write_in_a_loop)


def _jvp_of_maxima(primals, tangents, *, rows, columns):
    y, places = maxima_p.bind(*primals, rows=rows, columns=columns)
    dy = _read(ad.instantiate_zeros(tangents[0]), places, rows, columns)
    return [y, places], [dy, ad.Zero(jax.typeof(places).to_tangent_aval())]


def _linear_in_first(primitive, transpose):
    def jvp(tangent, first, places, **windows):
        return primitive.bind(tangent, places, **windows)

    def transposed(cotangent, first, places, *, rows, columns):
        return transpose(ad.instantiate_zeros(cotangent), places, rows, columns), None

    ad.defjvp(primitive, jvp, None)
    ad.primitive_transposes[primitive] = transposed


_linear_in_first(read_p, _write)
_linear_in_first(write_p, _read)
ad.primitive_jvps[maxima_p] = _jvp_of_maxima
