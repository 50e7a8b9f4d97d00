"""The data axis: what the devices of one step share.

A step runs either as one program over the whole batch (plain `jit`, or `jit` over a mesh) or as
one program for each device over its part (`shard_map`, `pmap`, `vmap`), with the axis named
`"data"` bound. The functions here give the same answer in both cases; outside such an axis each
of them is the identity, or the plain computation on the whole batch.
"""

import contextlib
from collections.abc import Callable
from contextvars import ContextVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ..errors import UserError

DATA_AXIS = "data"
SMALL = 2**16  # elements, below which arrays travel together
_alone: ContextVar[bool] = ContextVar("alone", default=False)


@contextlib.contextmanager
def each_alone():
    """What is traced within takes the part of one device for a whole batch: nothing is reduced over
    the data axis. Random keys are still those of the examples' places in the batch of all."""
    token = _alone.set(True)
    try:
        yield
    finally:
        _alone.reset(token)


def require_together(what: str) -> None:
    """Refuses local steps for what has no mean over devices that went different ways.

    Raises: UserError within `each_alone`.
    """
    if _alone.get():
        raise UserError(f"{what} have no mean over devices: leave out average_every")


def axis_size() -> int | None:
    """The number of parts of the batch, None where the data axis is not bound or each device is
    alone (`each_alone`)."""
    return None if _alone.get() else _bound_size()


def _bound_size():
    try:
        return lax.axis_size(DATA_AXIS)
    except NameError:
        return None


def sum_over_data(tree):
    """The sum of every leaf over the parts of the batch."""
    return tree if axis_size() is None else _reduce_together(lax.psum, tree)


def mean_over_data(tree):
    """The mean of every leaf over the parts of the batch."""
    return tree if axis_size() is None else _reduce_together(lax.pmean, tree)


def compressed_mean_over_data(tree, dtype):
    """The mean of every leaf over the parts of the batch, rounded to a narrower dtype on its way.

    Each device rounds its own value before it sends it, and the sum has that dtype too; it is
    widened before it is divided by the number of devices. A device that is alone rounds as well,
    so that what a step computes is no other for it.

    Raises: UserError where the data axis is not bound: there the compiler reduces, in float32.
    """
    if _bound_size() is None:
        raise UserError(
            f"gradients travel as {jnp.dtype(dtype).name} where the step itself sends them, by "
            "shard_map or pmap; under jit the compiler does"
        )

    totals = sum_over_data(jax.tree.map(lambda x: _round(x, dtype), tree))
    return jax.tree.map(lambda total, x: total.astype(x.dtype) / (axis_size() or 1), totals, tree)


def _reduce_together(reduce: Callable, tree):
    """Every leaf reduced over the data axis, small ones of a dtype as one array.

    A message waits as long however little it brings, and on CPUs each array is a message of its
    own; accelerators' compilers combine them by themselves.
    """
    leaves, structure = jax.tree.flatten(tree)
    together = {}
    for place, leaf in enumerate(leaves):
        if isinstance(leaf, jax.Array) and leaf.size < SMALL:
            together.setdefault(leaf.dtype, []).append(place)
        else:
            leaves[place] = reduce(leaf, DATA_AXIS)
    for places in together.values():
        parts = vary_alike(*(leaves[place] for place in places))
        ends = np.cumsum([part.size for part in parts])
        whole = reduce(jnp.concatenate([part.ravel() for part in parts]), DATA_AXIS)
        for place, part, found in zip(places, parts, jnp.split(whole, ends[:-1])):
            leaves[place] = found.reshape(part.shape)
    return jax.tree.unflatten(structure, leaves)


def _round(x, dtype):
    # A cast there and back alone may be left out by XLA, where it widens what it sends (on CPUs).
    bits = jnp.finfo(dtype)
    return lax.reduce_precision(x, bits.nexp, bits.nmant).astype(dtype)


def varying_over_data(tree):
    """The same values, marked as each device's own copy.

    The gradient with respect to such a copy is the device's own too, never already summed over
    devices, whether or not `shard_map` tracks what varies (`check_vma`).
    """
    if _bound_size() is None:
        return tree
    return jax.tree.map(_cast_to_varying, tree)


def _cast_to_varying(x):
    try:
        return lax.pcast(x, DATA_AXIS, to="varying")
    except ValueError:  # under vmap there is nothing to mark; a varying value is marked already
        return x


def zeros_like_shape(shape: jax.ShapeDtypeStruct) -> jax.Array:
    """Zeros of a shape and dtype, marked as differing between devices if that is (`eval_shape`)."""
    zeros = jnp.zeros(shape.shape, shape.dtype)
    varying = tuple(jax.typeof(shape).manual_axis_type.varying)
    return lax.pcast(zeros, varying, to="varying") if varying else zeros


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
    return _indices(count, axis_size())


def _indices(count, devices):
    indices = jnp.arange(count, dtype=jnp.int32)
    return indices if devices is None else indices + count * lax.axis_index(DATA_AXIS)


def example_keys(key: jax.Array, count: int) -> jax.Array:
    """One random key an example, `[count, …]`: a function of `key` and of the example's position
    in the batch of all devices alone, so that no compilation of the step changes what is drawn, and
    no two devices draw the same."""
    indices = _indices(count, _bound_size())
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, indices)
