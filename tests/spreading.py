"""One function of a batch, run in every way in which devices can share the batch."""

from functools import partial

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from convnets.parallel import create_mesh

DEVICES = 8
WAYS = ("one device", "jit", "shard_map", "shard_map unchecked", "pmap", "vmap")
SPREAD = WAYS[1:]
BOUND = WAYS[2:]  # those in which each device runs a program of its own, with the data axis bound


def spread(function, way, whole, batch):
    """`function(whole, batch) -> (same, rows)` with the batch's leading axis over eight devices.

    Returns: `same`, which the function must make equal on every device, and `rows`, one for each
    example, together again; in NumPy.
    """
    replicated, divided = PartitionSpec(), PartitionSpec("data")
    mesh = create_mesh(DEVICES)
    if way == "one device":
        run = jax.jit(function)
    elif way == "jit":
        shardings = NamedSharding(mesh, replicated), NamedSharding(mesh, divided)
        run = jax.jit(function, in_shardings=shardings, out_shardings=shardings)
    elif way.startswith("shard_map"):
        specs = {"in_specs": (replicated, divided), "out_specs": (replicated, divided)}
        run = jax.jit(jax.shard_map(function, mesh=mesh, **specs, check_vma=way == "shard_map"))
    else:
        run = _over_parts(function, way)
    return jax.device_get(run(whole, batch))


def _over_parts(function, way):
    axes = {"in_axes": (None, 0), "out_axes": (None, 0)}
    mapping = {"pmap": jax.pmap, "vmap": jax.vmap}[way]
    mapped = mapping(function, axis_name="data", **axes)

    def run(whole, batch):
        part = partial(jax.tree.map, lambda x: x.reshape(DEVICES, -1, *x.shape[1:]))
        same, rows = mapped(whole, part(batch))
        return same, jax.tree.map(lambda x: np.asarray(x).reshape(-1, *x.shape[2:]), rows)

    return run
