"""Convolution, its input gradient and its kernel gradient: three primitives, each bilinear, whose
derivatives are one another.

Every pass is a primitive of its own so that each can be lowered in the way that is fastest for
its shapes, and any derivative of any order, forward or reverse, is made of the same three.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from . import onednn, plain
from .collective import vary_alike
from .lowerings import run_compiled, takes_calls
from .onednn.calls import Convolution

Pair = tuple[int, int]


class Window(NamedTuple):
    """How a kernel is moved over an image: all of a convolution but its two arrays."""

    stride: Pair
    padding: tuple[Pair, Pair]
    dilation: Pair
    groups: int


def convolution(x, kernel, window: Window, lowering: str):
    """`[B, H, W, C]`, `[kernel H, kernel W, C / groups, features]` to `[B, H', W', features]`."""
    x, kernel = vary_alike(x, kernel)
    return convolution_p.bind(x, kernel, window=window, lowering=lowering)


def convolution_input_gradient(gradient, kernel, size: Pair, window: Window, lowering: str):
    """The transpose of a convolution by a kernel: `[B, H', W', features]` to `[B, *size, C]`."""
    gradient, kernel = vary_alike(gradient, kernel)
    return input_gradient_p.bind(gradient, kernel, size=size, window=window, lowering=lowering)


def convolution_kernel_gradient(x, gradient, size: Pair, window: Window, lowering: str):
    """The transpose of the convolution of an image: the gradient of a kernel of that size."""
    x, gradient = vary_alike(x, gradient)
    return kernel_gradient_p.bind(x, gradient, size=size, window=window, lowering=lowering)


NAMES = {
    "forward": "convolution",
    "input_gradient": "convolution_input_gradient",
    "kernel_gradient": "convolution_kernel_gradient",
}
convolution_p, input_gradient_p, kernel_gradient_p = map(Primitive, NAMES.values())


# Shapes -----------------------------------------------------------------------------------------


def _reach(kernel_size: int, dilation: int) -> int:
    return (kernel_size - 1) * dilation + 1


def output_shape(x, kernel, *, window, **_):
    rows, columns = (
        (n + sum(pads) - _reach(k, d)) // s + 1
        for n, k, s, pads, d in zip(
            x.shape[1:3], kernel.shape, window.stride, window.padding, window.dilation
        )
    )
    return x.shape[0], rows, columns, kernel.shape[3]


def _input_shape(gradient, kernel, *, size, window, **_):
    return gradient.shape[0], *size, kernel.shape[2] * window.groups


def _kernel_shape(x, gradient, *, size, window, **_):
    return *size, x.shape[3] // window.groups, gradient.shape[3]


# Derivatives ------------------------------------------------------------------------------------


def _convolution_by_input(cotangent, x, kernel, *, window, lowering):
    size = x.aval.shape[1:3]
    return convolution_input_gradient(cotangent, kernel, size, window, lowering)


def _convolution_by_kernel(cotangent, x, kernel, *, window, lowering):
    size = kernel.aval.shape[:2]
    return convolution_kernel_gradient(x, cotangent, size, window, lowering)


def _input_gradient_by_gradient(cotangent, gradient, kernel, *, size, window, lowering):
    return convolution(cotangent, kernel, window, lowering)


def _input_gradient_by_kernel(cotangent, gradient, kernel, *, size, window, lowering):
    size = kernel.aval.shape[:2]
    return convolution_kernel_gradient(cotangent, gradient, size, window, lowering)


def _kernel_gradient_by_input(cotangent, x, gradient, *, size, window, lowering):
    size = x.aval.shape[1:3]
    return convolution_input_gradient(gradient, cotangent, size, window, lowering)


def _kernel_gradient_by_gradient(cotangent, x, gradient, *, size, window, lowering):
    return convolution(x, cotangent, window, lowering)


# Batching ---------------------------------------------------------------------------------------


def _batch(primitive, kind, image_first, operands, axes, **params):
    """vmap over images alone is a larger batch; over a kernel, XLA's own convolution."""
    a, b = operands
    if not image_first or axes[1] is not None:
        del params["lowering"]
        return jax.vmap(partial(plain.XLA[kind], **params), in_axes=axes)(a, b), 0
    a = jnp.moveaxis(a, axes[0], 0)
    y = primitive.bind(a.reshape(-1, *a.shape[2:]), b, **params)
    return y.reshape(*a.shape[:2], *y.shape[1:]), 0


# Lowering ---------------------------------------------------------------------------------------


def _lower_on_cpu(kind, shapes, context, *operands, lowering, **params):
    """By oneDNN, where it is wanted, is there and has a kernel; by plain JAX; or as it stands."""
    a, b = context.avals_in
    function = plain.XLA[kind] if lowering == "xla" else plain.PLAIN[kind]
    function = partial(function, **params)
    if lowering == "onednn" and takes_calls(context):
        image, kernel, output = shapes(a.shape, b.shape, context.avals_out[0].shape)
        described = Convolution(kind, image, kernel, output, *params["window"], dtype=a.dtype.name)
        function = onednn.convolution_call(described) or function
    return mlir.lower_fun(in_scope(kind, function), multiple_results=False)(context, *operands)


def in_scope(kind, function):
    """The function in a scope of its own, by which a profile knows it."""

    def named(*operands):
        with jax.named_scope(NAMES[kind]):
            return function(*operands)

    return named


def _define(primitive, kind, result_shape, by_first, by_second, shapes, image_first):
    def result(a, b, **params):
        shape = result_shape(a, b, **params)
        return (a if image_first else plain.unsharded(a)).update(shape=shape, weak_type=False)

    def lower(context, *operands, lowering, **params):
        function = in_scope(kind, partial(plain.XLA[kind], **params))
        return mlir.lower_fun(function, multiple_results=False)(context, *operands)

    run_compiled(primitive)
    primitive.def_abstract_eval(result)
    ad.defbilinear(primitive, by_first, by_second)
    batching.primitive_batchers[primitive] = partial(_batch, primitive, kind, image_first)
    mlir.register_lowering(primitive, lower)
    mlir.register_lowering(primitive, partial(_lower_on_cpu, kind, shapes), platform="cpu")


_define(
    convolution_p,
    "forward",
    output_shape,
    _convolution_by_input,
    _convolution_by_kernel,
    shapes=lambda image, kernel, output: (image, kernel, output),
    image_first=True,
)
_define(
    input_gradient_p,
    "input_gradient",
    _input_shape,
    _input_gradient_by_gradient,
    _input_gradient_by_kernel,
    shapes=lambda output, kernel, image: (image, kernel, output),
    image_first=True,
)
_define(
    kernel_gradient_p,
    "kernel_gradient",
    _kernel_shape,
    _kernel_gradient_by_input,
    _kernel_gradient_by_gradient,
    shapes=lambda image, output, kernel: (image, kernel, output),
    image_first=False,
)
