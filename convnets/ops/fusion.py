"""Inference in fewer passes: what follows a convolution is done by the convolution itself.

A kernel of oneDNN can add a bias, add an image and cut off the negative while its results are still
in registers. This reads the program of a function for such chains, and puts one operation in the
place of each: a batch norm with running statistics becomes a factor of the kernel and a bias.
"""

from collections import Counter
from functools import partial, wraps
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend import source_info_util
from jax.extend.core import Literal, Primitive
from jax.interpreters import batching, mlir

from . import onednn, plain
from .lowerings import current_lowering, run_compiled, takes_calls
from .onednn.calls import Convolution
from .primitives import Window, convolution, convolution_p, in_scope, output_shape


def fuse_convolutions(function):
    """The same function for inference, in which convolutions do what follows them.

    Args:
      function: of arrays and trees of them; what else it is called with, by name. It is traced; its
        derivatives are not kept.

    Returns: a function to be compiled in its place. Its answers differ by rounding, and where the
      numbers are infinite: a ReLU leaves -inf, and a factor of the output is one of the kernel. It
      is the function itself, but for a trace, where convolutions are not lowered by oneDNN.

    >>> kernel = jnp.ones((3, 3, 8, 8))
    >>> layer = lambda x: jax.nn.relu(convolution(x, kernel, WINDOW, "onednn") - 1)
    >>> x = jnp.ones((1, 4, 4, 8))
    >>> bool(jnp.allclose(jax.jit(fuse_convolutions(layer))(x), layer(x)))
    True
    """

    @wraps(function)
    def fused(*arguments, **named):
        if current_lowering() != "onednn":
            return function(*arguments, **named)
        traced = jax.make_jaxpr(partial(function, **named), return_shape=True)
        program, shapes = traced(*arguments)
        outputs = _evaluate(program.jaxpr, program.consts, jax.tree.leaves(arguments))
        return jax.tree.unflatten(jax.tree.structure(shapes), map(_finish, outputs))

    return fused


WINDOW = Window((1, 1), ((0, 0), (0, 0)), (1, 1), 1)
INLINED = {"jit": "jaxpr", "pjit": "jaxpr", "custom_jvp_call": "call_jaxpr"}


class Chain(NamedTuple):
    """A convolution not yet computed, and what follows it: `relu(scale * y + shift + addend)`."""

    x: Any
    kernel: Any
    window: Window
    scale: Any = None
    shift: Any = None
    addend: Any = None
    relu: bool = False


def _evaluate(program, constants, arguments):
    """The outputs of a program, some of which may be chains."""
    uses = Counter(v for equation in program.eqns for v in equation.invars if _is_variable(v))
    uses.update(v for v in program.outvars if _is_variable(v))
    values = dict(zip((*program.constvars, *program.invars), (*constants, *arguments)))

    def read(variable):
        if not _is_variable(variable):
            return variable.val
        if uses[variable] > 1:  # a chain goes on in one place only
            values[variable] = _finish(values[variable])
        return values[variable]

    for equation in program.eqns:
        outputs = _apply(equation, [read(v) for v in equation.invars])
        values.update(zip(equation.outvars, outputs))
    return [read(v) for v in program.outvars]


def _is_variable(value) -> bool:
    return not isinstance(value, Literal)


def _apply(equation, operands):
    name, params = equation.primitive.name, equation.params
    if equation.primitive is convolution_p and params["lowering"] == "onednn":
        x, kernel = map(_finish, operands)
        if kernel.dtype == jnp.float32:
            return [Chain(x, kernel, params["window"])]
    if name in INLINED:
        inner = params[INLINED[name]]
        return _evaluate(inner.jaxpr, inner.consts, operands)
    if len(operands) == 2 and any(isinstance(operand, Chain) for operand in operands):
        longer = _extend(name, *operands)
        if longer is None and name in ("add", "mul", "max"):
            longer = _extend(name, *reversed(operands))
        if longer is not None:
            return [longer]
    bound, source = equation.primitive.get_bind_params(params), equation.source_info
    scope = source_info_util.current_name_stack() + source.name_stack
    with source_info_util.user_context(source.traceback, name_stack=scope):
        outputs = equation.primitive.bind(*map(_finish, operands), **bound)
    return outputs if equation.primitive.multiple_results else [outputs]


def _extend(name, chain, other) -> Chain | None:
    """The chain with one more operation, where that is possible."""
    if not isinstance(chain, Chain) or chain.relu:
        return None
    features = chain.kernel.shape[3]
    shape = getattr(other, "shape", ()) if not isinstance(other, Chain) else None
    if name == "max":
        zero = isinstance(other, (int, float)) or shape == ()
        return chain._replace(relu=True) if zero and _is_zero(other) else None
    if shape in ((), (1, 1, 1, features)):
        values = jnp.broadcast_to(jnp.ravel(other), (features,))
        if name in ("add", "sub"):
            shift = values if name == "add" else -values
            return chain._replace(shift=shift if chain.shift is None else chain.shift + shift)
        if name == "mul" and chain.addend is None:
            scale = values if chain.scale is None else chain.scale * values
            shift = None if chain.shift is None else chain.shift * values
            return chain._replace(scale=scale, shift=shift)
        return None
    if name == "add" and chain.addend is None:
        other = _finish(other)
        return chain._replace(addend=other) if other.shape == _shape(chain) else None
    return None


def _is_zero(value) -> bool:
    try:
        return float(value) == 0
    except jax.errors.ConcretizationTypeError:
        return False


def _shape(chain):
    compute = partial(convolution, window=chain.window, lowering="xla")
    return jax.eval_shape(compute, chain.x, chain.kernel).shape


def _finish(value):
    """A chain, computed; anything else as it is."""
    if not isinstance(value, Chain):
        return value
    x, kernel, window, scale, shift, addend, relu = value
    if scale is not None:
        kernel = kernel * scale.reshape(1, 1, 1, -1)
    if shift is None and addend is None and not relu:
        return convolution(x, kernel, window, "onednn")
    then = [one for one in (shift, addend) if one is not None]
    follows = {"bias": shift is not None, "addend": addend is not None, "relu": relu}
    return fused_convolution_p.bind(x, kernel, *then, window=window, **follows)


# The operation ----------------------------------------------------------------------------------


fused_convolution_p = Primitive("fused_convolution")


def _compute(x, kernel, *then, window, bias, addend, relu):
    y = plain.PLAIN["forward"](x, kernel, window=window)
    for one in then:
        y = y + (one if one.ndim == 4 else one.reshape(1, 1, 1, -1))
    return jnp.maximum(y, 0) if relu else y


def _result(x, kernel, *then, window, **follows):
    return x.update(shape=output_shape(x, kernel, window=window))


def _lower_on_cpu(context, *operands, window, **follows):
    x, kernel, *_ = context.avals_in
    function = partial(_compute, window=window, **follows)
    if takes_calls(context):
        shapes = x.shape, kernel.shape, context.avals_out[0].shape
        described = Convolution("forward", *shapes, *window, x.dtype.name, **follows)
        function = onednn.convolution_call(described) or function
    named = in_scope("forward", function)
    return mlir.lower_fun(named, multiple_results=False)(context, *operands)


def _batch(operands, axes, **params):
    return jax.vmap(partial(_compute, **params), in_axes=axes)(*operands), 0


run_compiled(fused_convolution_p)
fused_convolution_p.def_abstract_eval(_result)
batching.primitive_batchers[fused_convolution_p] = _batch
mlir.register_lowering(fused_convolution_p, mlir.lower_fun(_compute, multiple_results=False))
mlir.register_lowering(fused_convolution_p, _lower_on_cpu, platform="cpu")
