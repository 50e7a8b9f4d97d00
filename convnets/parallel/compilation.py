"""One step, compiled for one device or many: `jit` over a mesh, `shard_map`, or `pmap`."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ..errors import UserError, unknown
from ..ops.collective import DATA_AXIS
from .placement import create_mesh, is_replicated, replicate, split

REPLICATED, SPLIT = PartitionSpec(), PartitionSpec(DATA_AXIS)

# XLA hands convolutions on the CPU to a library that is slow at them, beside matrix products and
# reductions, at which it is fast. This leaves it the latter alone.
CPU_OPTIONS = {
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_DOT,LIBRARY_FUSION_TYPE_REDUCE"
}


class CompiledStep(NamedTuple):
    """A step on its devices; call it as the step, with a host batch and a state as created.

    Attributes:
      run: the compiled function, of a placed state and a placed batch.
      mesh: its devices, along the axis `data`.
      place_state: `state -> state` on all devices: a copy, unless it lies there already.
      place_batch: `batch -> batch` with a share on each device; for loaders that prefetch.

    The buffers of a placed state are donated to the call, if the step was compiled so.
    """

    run: Callable
    mesh: Mesh
    place_state: Callable[[Any], Any]
    place_batch: Callable[[Any], Any]

    def __call__(self, state, batch):
        return self.run(self.place_state(state), self.place_batch(batch))


def compile(
    step: Callable,
    strategy: str = "jit",
    *,
    devices: int | list | None = None,
    mesh: Mesh | None = None,
    donate: bool = True,
) -> CompiledStep:
    """Compiles `step(state, batch)`, whatever it returns, for the devices of a mesh.

    Args:
      step: a training step from `make_step`, or an evaluation step from `make_eval_step`.
      strategy: `jit`, one program over the whole batch, parted by the compiler; `shard_map` or
        `pmap`, one program for each device, with the axis `data` bound. All give the same numbers.
      devices: how many devices, or which; all by default.
      mesh: in place of `devices`, a mesh with the one axis `data`.
      donate: whether a placed state's buffers are given to the call. Take False for evaluation.

    What the step returns must be the same on every device.

    Raises: UserError for an unknown strategy or too many devices; when called, for a batch that
    the devices do not divide.

    >>> import jax.numpy as jnp
    >>> step = compile(lambda state, batch: (state + 1, batch["x"].sum()), devices=1)
    >>> state, total = step(jnp.float32(0), {"x": jnp.ones(3)})
    >>> float(state), float(total)
    (1.0, 3.0)
    """
    if strategy not in STRATEGIES:
        raise unknown("parallel strategy", strategy, STRATEGIES)
    if mesh is None:
        mesh = create_mesh(devices)
    elif devices is not None:
        raise UserError("give devices or a mesh, not both")

    def place_state(state):
        return state if is_replicated(state, mesh) else replicate(state, mesh)

    def place_batch(batch):
        return split(batch, mesh)

    run = STRATEGIES[strategy](step, mesh, (0,) if donate else ())
    return CompiledStep(run, mesh, place_state, place_batch)


def _jit(step, mesh, donated):
    replicated, divided = NamedSharding(mesh, REPLICATED), NamedSharding(mesh, SPLIT)
    return jax.jit(
        step,
        in_shardings=(replicated, divided),
        out_shardings=replicated,
        donate_argnums=donated,
        compiler_options=compiler_options(mesh.devices.flat[0].platform),
    )


def _shard_map(step, mesh, donated):
    mapped = jax.shard_map(step, mesh=mesh, in_specs=(REPLICATED, SPLIT), out_specs=REPLICATED)
    return jax.jit(
        mapped,
        donate_argnums=donated,
        compiler_options=compiler_options(mesh.devices.flat[0].platform),
    )


def _pmap(step, mesh, donated):
    mapped = jax.pmap(
        step,
        axis_name=DATA_AXIS,
        in_axes=(None, 0),
        out_axes=None,
        devices=list(mesh.devices.flat),
        donate_argnums=donated,
    )

    def run(state, batch):
        return mapped(state, jax.tree.map(lambda x: x.reshape(mesh.size, -1, *x.shape[1:]), batch))

    return run


STRATEGIES = {"jit": _jit, "shard_map": _shard_map, "pmap": _pmap}


@functools.cache
def compiler_options(platform: str) -> dict | None:
    """The compiler options that a platform runs faster with, None where it knows none of them."""
    if platform != "cpu":
        return None
    try:
        jax.jit(lambda: 0, compiler_options=CPU_OPTIONS).lower().compile()
    except jax.errors.JaxRuntimeError:
        return None
    return CPU_OPTIONS
