"""A parameter server as plain data and functions: shards, numbered pushes, what is counted.

A shard keeps some of the parameters and batch statistics, what the optimizer remembers of them, and
counts. Nothing here knows of processes: `downpour` puts each shard into one of its own.

Reference: Dean et al. 2012, "Large scale distributed deep networks", section 4.1 (Downpour SGD) and
appendix, algorithms 7.1 and 7.2.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import traverse_util

from ..errors import UserError
from .partition import by_path


class Counts(NamedTuple):
    """What a shard has counted.

    Attributes:
      numbers: of each worker the number of the last push that was applied, or where it began.
      applied: pushes applied; it is the shard's version as well.
      dropped: pushes whose number was there already, or an older one.
      missing: numbers that were passed over: those pushes never came here, or are forgotten, for
        the shard died and came back with what it had last saved.
      ahead: pushes applied that were computed from a version which this shard, restored since, has
        not reached again; their staleness is unknown.
      staleness: how many of the other pushes met a version so much later than the one that they
        were computed from.
    """

    numbers: tuple[int, ...]
    applied: int = 0
    dropped: int = 0
    missing: int = 0
    ahead: int = 0
    staleness: dict[int, int] = {}  # noqa: RUF012, never changed in place


class Shard(NamedTuple):
    """A part of a training: trees of NumPy or JAX arrays, and counts.

    Attributes:
      params, batch_stats: nested dicts, with this shard's paths alone.
      opt_state: of the optimizer, for these parameters.
      counts: what came.
    """

    params: dict
    batch_stats: dict
    opt_state: Any
    counts: Counts


class Push(NamedTuple):
    """What a worker sends to a shard.

    Attributes:
      worker: from 0 on.
      number: 1, 2, … of each worker; the same on every shard.
      version: of the shard, that the first of the gradients was computed from.
      grads: the mean gradient, of the shard's parameters.
      batch_stats: the shard's statistics as the worker has them now.
      value: the mean loss, for optimizers that want it.
    """

    worker: int
    number: int
    version: int
    grads: dict
    batch_stats: dict
    value: float


def divide_paths(params, batch_stats, shards: int) -> list[tuple[frozenset, frozenset]]:
    """Which paths, as `backbone/conv1/kernel`, each shard keeps.

    The largest array goes to the shard with the fewest bytes, then the next; of equal ones the
    first by name. An array is never cut.

    Returns: for each shard the paths of its parameters and of its batch statistics.

    Raises: UserError for fewer arrays of parameters than shards.

    >>> params = {"a": np.zeros(3), "b": np.zeros(2), "c": np.zeros(1)}
    >>> [sorted(paths) for paths, _ in divide_paths(params, {}, 2)]
    [['a'], ['b', 'c']]
    """
    arrays = flat(params)
    if not 1 <= shards <= len(arrays):
        raise UserError(f"{len(arrays)} arrays of parameters do not divide into {shards} shards")
    loads = [0] * shards
    divided = []
    for tree in (arrays, flat(batch_stats)):
        parts = [set() for _ in range(shards)]
        for path in sorted(tree, key=lambda path: (-tree[path].nbytes, path)):
            lightest = loads.index(min(loads))
            loads[lightest] += tree[path].nbytes
            parts[lightest].add(path)
        divided.append(map(frozenset, parts))
    return list(zip(*divided))


def create_shards(
    params, batch_stats, opt_state, optimizer, shards: int, counts: list[Counts]
) -> list[Shard]:
    """The shards of a state; of what the optimizer remembers each has what is of its parameters,
    and what is of none.

    Raises: UserError for an optimizer whose memory is not an array for each parameter.
    """
    remembered = by_path(opt_state)
    found = []
    for (paths, stats), count in zip(divide_paths(params, batch_stats, shards), counts):
        part = pick(params, paths)
        template = jax.eval_shape(optimizer.init, part)
        for path, leaf in by_path(template).items():
            if path not in remembered or np.shape(remembered[path]) != leaf.shape:
                raise UserError(
                    f"the optimizer keeps {path}, which is of no parameter alone: a parameter "
                    "server in shards cannot divide it; take one shard or another optimizer"
                )
        leaves = [np.array(remembered[path]) for path in by_path(template)]
        own = jax.tree.unflatten(jax.tree.structure(template), leaves)
        found.append(Shard(part, pick(batch_stats, stats), own, count))
    return found


def join_shards(shards: list[Shard], opt_state):
    """`params, batch_stats, opt_state` of all shards together.

    Args:
      opt_state: a template of the whole. What is of no parameter alone, such as a count of updates,
        is that of the shard with the most.
    """
    remembered = {}
    for shard in sorted(shards, key=lambda shard: shard.counts.applied):
        remembered |= by_path(shard.opt_state)
    leaves = [remembered[path] for path in by_path(opt_state)]
    return (
        join([shard.params for shard in shards]),
        join([shard.batch_stats for shard in shards]),
        jax.tree.unflatten(jax.tree.structure(opt_state), leaves),
    )


def make_update(optimizer: optax.GradientTransformation, workers: int) -> Callable:
    """`(shard's trees, push's trees) -> shard's trees`, compiled: what applying a push computes.

    The parameters take the optimizer's update. Batch statistics go a part of the way, one in so
    many workers, toward those that were pushed: with one worker they are that worker's, with more a
    mean over the last pushes of all.
    """
    optimizer = optax.with_extra_args_support(optimizer)

    @jax.jit
    def update(params, batch_stats, opt_state, grads, pushed, value):
        updates, opt_state = optimizer.update(grads, opt_state, params, value=value)
        params = optax.apply_updates(params, updates)
        if workers == 1:
            return params, pushed, opt_state
        move = lambda old, new: old + (new - old) / workers  # noqa: E731
        return params, jax.tree.map(move, batch_stats, pushed), opt_state

    return update


def apply_push(shard: Shard, push: Push, update: Callable) -> Shard:
    """The shard after a push; of one whose number it has had already, only the count changes."""
    counts = shard.counts
    last = counts.numbers[push.worker]
    if push.number <= last:
        return shard._replace(counts=counts._replace(dropped=counts.dropped + 1))
    trees = (shard.params, shard.batch_stats, shard.opt_state)
    value = np.float32(push.value)
    params, batch_stats, opt_state = update(*trees, push.grads, push.batch_stats, value)
    age, staleness, ahead = counts.applied - push.version, counts.staleness, counts.ahead
    if age < 0:
        ahead += 1
    else:
        staleness = {**staleness, age: staleness.get(age, 0) + 1}
    numbers = (*counts.numbers[: push.worker], push.number, *counts.numbers[push.worker + 1 :])
    counts = counts._replace(
        numbers=numbers,
        applied=counts.applied + 1,
        missing=counts.missing + push.number - last - 1,
        ahead=ahead,
        staleness=staleness,
    )
    return Shard(params, batch_stats, opt_state, counts)


def paths_of(shards: list[Shard]) -> list[tuple[frozenset, frozenset]]:
    """The paths that each shard has, of parameters and of batch statistics."""
    return [(frozenset(flat(shard.params)), frozenset(flat(shard.batch_stats))) for shard in shards]


def divide_push(paths, worker, number, versions, grads, batch_stats, value) -> list[Push]:
    """The push of each shard, whose paths are given."""
    return [
        Push(worker, number, version, pick(grads, own), pick(batch_stats, stats), value)
        for version, (own, stats) in zip(versions, paths)
    ]


def add_histograms(histograms) -> dict[int, int]:
    """One histogram of all, its keys in order.

    >>> add_histograms([{1: 2}, {0: 1, 1: 1}])
    {0: 1, 1: 3}
    """
    keys = sorted({key for histogram in histograms for key in histogram})
    return {key: sum(histogram.get(key, 0) for histogram in histograms) for key in keys}


def flat(tree) -> dict:
    """The arrays of nested dicts by their paths."""
    return traverse_util.flatten_dict(tree, sep="/")


def pick(tree, paths) -> dict:
    """Of nested dicts, those with these paths alone."""
    chosen = {path: x for path, x in flat(tree).items() if path in paths}
    return traverse_util.unflatten_dict(chosen, sep="/")


def join(trees) -> dict:
    """Nested dicts of different paths as one."""
    return traverse_util.unflatten_dict(
        {path: x for tree in trees for path, x in flat(tree).items()}, sep="/"
    )


def on_host(tree):
    """A copy in NumPy arrays of one's own."""
    return jax.tree.map(np.array, jax.device_get(tree))


def on_device(tree):
    """A copy on the device, which keeps no memory of a message alive."""
    return jax.tree.map(lambda x: jnp.array(x, copy=True), tree)
