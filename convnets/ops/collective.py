"""The data axis: what the devices of one step share.

A step runs either as one program over the whole batch (plain `jit`, or `jit` over a mesh) or as
one program for each device over its part (`shard_map`, `pmap`, `vmap`), with the axis named
`"data"` bound. The functions here give the same answer in both cases; outside such an axis each
of them is the identity, or the plain computation on the whole batch.
"""

import jax
import jax.numpy as jnp
from jax import lax

DATA_AXIS = "data"


def axis_size() -> int | None:
    """The number of parts of the batch, None where the data axis is not bound."""
    try:
        return lax.axis_size(DATA_AXIS)
    except NameError:
        return None


def sum_over_data(tree):
    """The sum of every leaf over the parts of the batch."""
    return tree if axis_size() is None else lax.psum(tree, DATA_AXIS)


def mean_over_data(tree):
    """The mean of every leaf over the parts of the batch."""
    return tree if axis_size() is None else lax.pmean(tree, DATA_AXIS)


def varying_over_data(tree):
    """The same values, marked as each device's own copy.

    The gradient with respect to such a copy is the device's own too, never already summed over
    devices, whether or not `shard_map` tracks what varies (`check_vma`).
    """
    if axis_size() is None:
        return tree
    return jax.tree.map(_cast_to_varying, tree)


def _cast_to_varying(x):
    try:
        return lax.pcast(x, DATA_AXIS, to="varying")
    except ValueError:  # under vmap there is nothing to mark; a varying value is marked already
        return x


def vary_alike(*arrays) -> list:
    """The arrays, under `shard_map` all marked as differing between devices if one of them is."""
    varying = [frozenset(jax.typeof(array).manual_axis_type.varying) for array in arrays]
    union = frozenset().union(*varying)
    return [
        lax.pcast(array, tuple(union - own), to="varying") if union - own else array
        for array, own in zip(arrays, varying)
    ]


def global_indices(count: int) -> jax.Array:
    """The positions of the local `count` examples in the whole batch, int32 `[count]`."""
    indices = jnp.arange(count, dtype=jnp.int32)
    return indices if axis_size() is None else indices + count * lax.axis_index(DATA_AXIS)


def example_keys(key: jax.Array, count: int) -> jax.Array:
    """One random key an example, `[count, …]`: a function of `key` and of the example's position
    in the whole batch alone, so that no compilation of the step changes what is drawn."""
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, global_indices(count))
