"""Evaluation that counts every example once, whatever the batch size and the devices."""

import collections
import functools
from collections.abc import Callable, Iterable

import jax
import numpy as np
from jax.experimental import multihost_utils

from .. import metrics
from .state import TrainState

IN_FLIGHT = 4  # batches on their way before the first of them is read


def evaluate(eval_step: Callable, state: TrainState, batches: Iterable[dict]) -> dict:
    """The mean of every metric over all examples of the batches.

    Args:
      eval_step: from `make_eval_step`, through `parallel.compile` or not (then it is jitted).
      state: with the parameters to evaluate; moving averages are used where it keeps them.
      batches: an iterable of batches; examples whose `mask` is false do not count. A batch that
        the devices do not divide is padded. Where the devices are those of several processes, each
        gives its share of every batch, as `data.evaluation_batches` makes, and as many of them.

    Returns: `{"loss": float, "accuracy": float, …, "examples": int}`; a metric whose sum is an
    array (a confusion matrix) is the array of sums over count. Sums are added in float64.

    Raises: ValueError when there is no example at all.

    >>> import jax.numpy as jnp
    >>> eval_step = lambda state, batch: {"loss": (batch["x"].sum(), batch["mask"].sum())}
    >>> state = TrainState(jnp.int32(0), None, None, None, None)
    >>> evaluate(eval_step, state, [{"x": jnp.array([1.0, 2.0])}, {"x": jnp.array([6.0])}])
    {'loss': 3.0, 'examples': 3}
    """
    if hasattr(eval_step, "place_state"):
        state, mesh = eval_step.place_state(state), eval_step.mesh
        devices, several = len(mesh.local_devices), mesh.is_multi_process
    else:
        eval_step, devices, several = jax.jit(eval_step), 1, False
    totals, examples = {}, 0
    pending = collections.deque()  # read some batches late, so that the device never waits
    for batch in batches:
        batch = pad_batch(batch, devices)
        examples += int(np.sum(batch["mask"]))
        pending.append(eval_step(state, batch))
        if len(pending) > IN_FLIGHT:
            totals = _add(totals, pending.popleft())
    if several:
        examples = int(multihost_utils.process_allgather(np.int32(examples)).sum())
    if not examples:
        raise ValueError("there is nothing to evaluate: the batches hold no example")
    totals = functools.reduce(_add, pending, totals)
    return {**metrics.finish(totals), "examples": examples}


def _add(totals, measured):
    measured = metrics.to_host(measured)
    return metrics.add(totals, measured) if totals else measured


def pad_batch(batch: dict, multiple: int) -> dict:
    """The batch with a `mask`, and with its first example repeated up to a multiple of examples."""
    size = len(next(iter(batch.values())))
    batch = dict(batch)
    if "mask" not in batch:
        batch["mask"] = np.ones(size, bool)
    missing = -size % multiple
    if not missing:
        return batch

    def pad(x):
        x = np.asarray(x)
        return np.concatenate([x, np.repeat(x[:1], missing, axis=0)])

    padded = {name: pad(x) for name, x in batch.items()}
    padded["mask"][size:] = False
    return padded
