"""One step, compiled for one device or many: `jit` over a mesh, `shard_map`, or `pmap`."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from .. import ops
from ..errors import UserError, unknown
from ..ops import collective
from ..ops.collective import DATA_AXIS
from .local_sgd import average_local_steps
from .partition import (
    Rules,
    compile_sharded,
    is_sharded,
    make_shardings_of,
    place,
    require_axes,
)
from .placement import create_mesh, is_replicated, place_whole, replicate, split, stack
from .processes import warm_up_collectives

REPLICATED, SPLIT, STACK = PartitionSpec(), PartitionSpec(DATA_AXIS), PartitionSpec(None, DATA_AXIS)

# XLA hands convolutions on the CPU to a library that is slow at them, beside matrix products and
# reductions, at which it is fast. This leaves it the latter alone.
CPU_OPTIONS = {
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_DOT,LIBRARY_FUSION_TYPE_REDUCE"
}


class CompiledStep(NamedTuple):
    """A step on its devices; call it as the step, with a host batch and a state as created.

    With `steps_per_call` above 1 it takes a list of as many batches, or fewer, and runs a step on
    each; the metrics are summed over them.

    Attributes:
      run: the compiled function, of a placed state and a placed batch, or a list of batches.
      mesh: its devices, along the axis `data`, and `model` where there is one.
      place_state: `state -> state` on all devices, whole or sharded: a copy, unless it lies there
        already. Every process gives the same.
      place_batch: `batch -> batch` with a share on each device; for loaders that prefetch. Where
        the mesh has devices of several processes, each gives its share of the batch.
      steps_per_call: how many steps a call runs at most.

    The buffers of a placed state are donated to the call, if the step was compiled so.
    """

    run: Callable
    mesh: Mesh
    place_state: Callable[[Any], Any]
    place_batch: Callable[[Any], Any]
    steps_per_call: int = 1

    def __call__(self, state, batch):
        if self.steps_per_call == 1:
            batch = self.place_batch(batch)
        return self.run(self.place_state(state), batch)


def compile(
    step: Callable,
    strategy: str = "jit",
    *,
    devices: int | list | None = None,
    mesh: Mesh | None = None,
    rules: Rules = (),
    shard_optimizer: bool = False,
    examples=None,
    steps_per_call: int = 1,
    local: bool = False,
    donate: bool = True,
    lowering: str | None = None,
) -> CompiledStep:
    """Compiles `step(state, batch)`, whatever it returns, for the devices of a mesh.

    Args:
      step: a training step from `make_step`, or an evaluation step from `make_eval_step`.
      strategy: `jit`, one program over the whole batch, divided by the compiler; `shard_map` or
        `pmap`, one program for each device, with the axis `data` bound. All give the same numbers.
      devices: how many devices, or which; all by default.
      mesh: in place of `devices`, a mesh with the axis `data`; with an axis `model` besides, under
        `jit`, parameters are sharded by rules and maps by rows, see `partition` and `ops.bands`.
      rules: `(pattern of parameters' paths, entries of a PartitionSpec)`, which go before the
        default: large dense and locally connected layers by features over `model`.
      shard_optimizer: whether what the optimizer keeps is sharded over `data`.
      examples: a tree of arrays `[N, …]` to lie on every device as a whole. A batch is then int32
        `[B]`, which of the examples make it up, and the step gathers them.
      steps_per_call: steps in one dispatch, for a training step: a loop on the device, which spares
        accelerators the wait for the host. On the CPU it is slower than one step a call, unless
        oneDNN computes the convolutions.
      local: whether each device makes the steps of a call alone, on its share of each batch, and
        the states are averaged at the end of the call: local SGD, see `average_local_steps`. Not
        under `jit`.
      donate: whether a placed state's buffers are given to the call. Take False for evaluation.
      lowering: on the CPU, see `ops.lowering`; None for the one in force when the
        step is first called.

    What the step returns must be the same on every device.

    Raises: UserError for an unknown strategy, too many devices, no step in a call, local steps
    under `jit`, or a sharded state under another strategy; when called, for a batch that the
    devices do not divide, and rules that do not fit the state.

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
    if lowering is not None and lowering not in ops.LOWERINGS:
        raise unknown("lowering", lowering, ops.LOWERINGS)
    require_axes(mesh)
    if strategy == "pmap" and mesh.is_multi_process:
        raise UserError("pmap is for the devices of one process; for several take jit or shard_map")
    if steps_per_call < 1:
        raise UserError(f"a call runs at least 1 step, not {steps_per_call}")
    if local and strategy == "jit":
        raise UserError("local steps are made by one program for each device: shard_map or pmap")
    warm_up_collectives(mesh)
    if lowering is not None:
        step = ops.lowering(lowering)(step)
    make, place_state = _choose(strategy, mesh, rules, shard_optimizer)

    def place_batch(batch):
        return split(batch, mesh)

    whole = ()  # what every device has besides
    if examples is not None:
        whole = (place_whole(examples, mesh, REPLICATED),)
        step = _gathering(step)
    besides = (REPLICATED,) * len(whole)
    make = functools.partial(make, mesh=mesh, donated=(0,) if donate else ())
    finish = average_local_steps if local else lambda steps: steps
    if steps_per_call == 1:
        compiled = make(finish(step), specs=(REPLICATED, SPLIT, *besides))
        run = compiled if not whole else lambda state, batch: compiled(state, batch, *whole)
    else:
        compiled = make(finish(_repeating(step)), specs=(REPLICATED, STACK, REPLICATED, *besides))

        def run(state, batches):
            missing = steps_per_call - len(batches)
            stacked = stack([*batches, *[batches[-1]] * missing], mesh)
            return compiled(state, stacked, np.int32(len(batches)), *whole)

    return CompiledStep(run, mesh, place_state, place_batch, steps_per_call)


def _choose(strategy, mesh, rules, shard_optimizer):
    """What compiles a step, and what places its state."""
    if not is_sharded(mesh, rules, shard_optimizer):

        def place_state(state):
            return state if is_replicated(state, mesh) else replicate(state, mesh)

        return STRATEGIES[strategy], place_state
    if strategy != "jit":
        raise UserError(
            f"{strategy} has the whole state on every device; a model axis, rules and an optimizer "
            "that is sharded are for jit"
        )
    shardings_of = make_shardings_of(mesh, rules, shard_optimizer)
    make = functools.partial(_jit_sharded, shardings_of=shardings_of)
    return make, lambda state: place(state, shardings_of(state))


def _gathering(step):
    """The step of a batch of indices, and of the examples that they are of."""

    def gathering(state, indices, examples):
        take = functools.partial(jnp.take, indices=indices, axis=0, mode="clip")
        return step(state, jax.tree.map(take, examples))

    return gathering


def _repeating(step):
    """As many steps as are asked for, on the first batches of a stack `[N, B, …]`."""

    def repeating(state, batches, count, *whole):
        def batch_at(index):
            return jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, index, 0, False), batches)

        def one_more(index, carried):
            state, totals = carried
            state, measured = step(state, batch_at(index), *whole)
            return state, jax.tree.map(jnp.add, totals, measured)

        _, shapes = jax.eval_shape(step, state, batch_at(0), *whole)
        nothing = jax.tree.map(collective.zeros_like_shape, shapes)
        return lax.fori_loop(0, count, one_more, (state, nothing))

    return repeating


def _jit(step, mesh, donated, specs):
    return jax.jit(
        step,
        in_shardings=tuple(NamedSharding(mesh, spec) for spec in specs),
        out_shardings=NamedSharding(mesh, REPLICATED),
        donate_argnums=donated,
        compiler_options=compiler_options(mesh.devices.flat[0].platform),
    )


def _jit_sharded(step, mesh, donated, specs, shardings_of):
    return compile_sharded(  # what it is given lies in its place
        step,
        mesh,
        shardings_of,
        donate_argnums=donated,
        compiler_options=compiler_options(mesh.devices.flat[0].platform),
    )


def _shard_map(step, mesh, donated, specs):
    mapped = jax.shard_map(step, mesh=mesh, in_specs=specs, out_specs=REPLICATED)
    return jax.jit(
        mapped,
        donate_argnums=donated,
        compiler_options=compiler_options(mesh.devices.flat[0].platform),
    )


def _pmap(step, mesh, donated, specs):
    axis = len(specs[1]) - 1  # of a batch's examples
    mapped = jax.pmap(
        step,
        axis_name=DATA_AXIS,
        in_axes=tuple(None if spec == REPLICATED else axis for spec in specs),
        out_axes=None,
        devices=list(mesh.devices.flat),
        donate_argnums=donated,
    )

    def share(x):
        return x.reshape(*x.shape[:axis], mesh.size, -1, *x.shape[axis + 1 :])

    def run(state, batch, *whole):
        return mapped(state, jax.tree.map(share, batch), *whole)

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
