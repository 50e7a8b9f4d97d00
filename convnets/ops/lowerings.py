"""How convolutions, max pooling and batch norm are lowered on the CPU: as calls of oneDNN
and of loops of ours, by plain JAX, or by XLA as they stand."""

import contextlib
import os
from contextvars import ContextVar
from functools import cache, partial

import jax

from ..errors import unknown
from . import onednn

LOWERINGS = ("onednn", "plain", "xla")
VARIABLE = "CONVNETS_LOWERING"

_forced: ContextVar[str | None] = ContextVar("lowering", default=None)


@contextlib.contextmanager
def lowering(name: str | None):
    """What is traced inside is lowered that way on the CPU; with None, by what there is.

    Args:
      name: `onednn`, where its library is found, else as `plain`: convolutions are its, the sums
        of batch norm and max pooling loops of ours; `plain`, the best of JAX's own operations for
        each shape; `xla`, one convolution of XLA's each; None for
        `CONVNETS_LOWERING` of the environment, else `onednn`.

    A program for `jax.export` has to be traced under `plain`: calls belong to one process.

    On other platforms every name means XLA's own convolution. What is compiled already stays as
    it is: a function that `jax.jit` has traced is not traced anew in another context.

    Raises: UserError for another name.

    >>> with lowering("xla"):
    ...     current_lowering()
    'xla'
    """
    if name is not None and name not in LOWERINGS:
        raise unknown("lowering", name, LOWERINGS)
    token = _forced.set(name)
    try:
        yield
    finally:
        _forced.reset(token)


def requested_lowering() -> str:
    """The name in force, whether or not this machine can follow it."""
    name = _forced.get() or os.environ.get(VARIABLE) or "onednn"
    if name not in LOWERINGS:
        raise unknown(f"lowering in {VARIABLE}", name, LOWERINGS)
    return name


def current_lowering() -> str:
    """What a convolution traced now becomes on JAX's default platform.

    >>> with lowering("plain"):
    ...     current_lowering()
    'plain'
    """
    if jax.default_backend() != "cpu":
        return "xla"
    name = requested_lowering()
    return "plain" if name == "onednn" and not onednn.available() else name


def takes_calls(context) -> bool:
    """Whether a primitive can be lowered to a call: its shapes are numbers above zero, and those
    of one device, as the compiler does not part a call."""
    avals = (*context.avals_in, *context.avals_out)
    sizes = [size for aval in avals for size in aval.shape]
    return all(isinstance(size, int) and size > 0 for size in sizes) and _is_local(context)


def _is_local(context):
    axes = context.module_context.axis_context
    mesh = getattr(axes, "mesh", None)
    if mesh is not None:
        return set(axes.manual_axes) == set(mesh.axis_names)
    return getattr(axes, "num_devices", 1) in (None, 1)


def run_compiled(primitive) -> None:
    """Has a primitive outside of `jax.jit` computed as inside."""

    @cache
    def compiled(**params):
        return jax.jit(partial(primitive.bind, **params))

    def run(*operands, **params):
        with jax.disable_jit(False):  # else the jitted call would come here again
            return compiled(**params)(*operands)

    primitive.def_impl(run)
