"""How convolutions are lowered on the CPU: by oneDNN, by plain JAX, or by XLA as they stand."""

import contextlib
import os
from contextvars import ContextVar

import jax

from ..errors import unknown
from . import onednn

LOWERINGS = ("onednn", "plain", "xla")
VARIABLE = "CONVNETS_LOWERING"

_forced: ContextVar[str | None] = ContextVar("lowering", default=None)


@contextlib.contextmanager
def lowering(name: str | None):
    """Convolutions traced inside are lowered that way on the CPU; with None, by what there is.

    Args:
      name: `onednn`, where its library is found, else as `plain`; `plain`, the best of JAX's own
        operations for each shape; `xla`, one convolution of XLA's each; None for
        `CONVNETS_LOWERING` of the environment, else `onednn`.

    A program for `jax.export` has to be traced under `plain`: oneDNN's calls belong to one process.

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


def is_local(context) -> bool:
    """Whether shapes are those of one device: the compiler does not part a call of ours."""
    axes = context.module_context.axis_context
    mesh = getattr(axes, "mesh", None)
    if mesh is not None:
        return set(axes.manual_axes) == set(mesh.axis_names)
    return getattr(axes, "num_devices", 1) in (None, 1)
