"""Local SGD: every device makes some steps alone, then their states are averaged."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from ..ops import collective
from ..ops.collective import DATA_AXIS


def average_local_steps(steps: Callable) -> Callable:
    """Steps that each device makes alone, on its part of the batches, with one average at the end.

    Within `steps` a device takes its part of a batch for the whole: the gradient is that of its own
    examples, batch norm has their statistics, groups lie within them. What is random stays that of
    the examples' places in the batch of all, so that no two devices drop or augment alike.

    Args:
      steps: `(state, …) -> (state, metrics)`, one step or several, as `make_step` makes it; pure.

    Returns: a function like it, to be run with the data axis bound (`shard_map`, `pmap`), on a
    state that is the same on every device. In what it returns floats of the state (parameters,
    optimizer state, batch statistics, moving averages) are the mean over the devices, all else (the
    counts of steps) the largest, which is each one's; metrics are summed. What no device changes
    keeps every bit.

    Reference: Stich 2019, "Local SGD converges fast and communicates little", algorithm 1; Lin,
    Stich, Patel, Jaggi 2020, "Don't use large mini-batches, use local SGD", algorithm 1. Differs:
    momentum is averaged too, where Lin et al. keep each device's own, for a state between two calls
    is one and the same everywhere.

    >>> def step(state, batch):  # towards the mean of the batch
    ...     return state - 0.5 * (state - batch.mean()), {"loss": (batch.sum(), 2)}
    >>> state, metrics = jax.vmap(average_local_steps(step), in_axes=(None, 0), axis_name="data")(
    ...     jnp.float32(1), jnp.array([[1.0, 3.0], [5.0, 7.0]]))
    >>> state.tolist(), metrics["loss"][1].tolist()
    ([2.5, 2.5], [4, 4])
    """

    def averaged(state, *rest):
        with collective.each_alone():
            last, metrics = steps(collective.varying_over_data(state), *rest)
        return _average(state, last), collective.sum_over_data(metrics)

    return averaged


def _average(before, after):
    """The mean over devices of floats, the largest of all else."""
    leaves, structure = jax.tree.flatten(after)
    # Of what was changed, for n times the same float over n need not be that float; of an infinite
    # one, as a plateau's best loss is at first, there is no change: those are averaged whole.
    pairs = [
        (jnp.where(jnp.isfinite(old), old, 0) if _is_float(old) else old, new)
        for old, new in zip(jax.tree.leaves(before), leaves, strict=True)
    ]
    changes = [new - old for old, new in pairs if _is_float(new)]
    changes = iter(collective.mean_over_data(changes))
    averaged = [
        old + next(changes) if _is_float(new) else lax.pmax(new, DATA_AXIS) for old, new in pairs
    ]
    return jax.tree.unflatten(structure, averaged)


def _is_float(x):
    return jnp.issubdtype(x.dtype, jnp.floating)
