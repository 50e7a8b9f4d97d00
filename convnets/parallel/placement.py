"""Where states and batches lie: the mesh, copies on all its devices, shares of a batch."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from ..errors import UserError
from ..ops.bands import MODEL_AXIS
from ..ops.collective import DATA_AXIS


def create_mesh(devices: int | list | None = None, *, model: int | None = None) -> Mesh:
    """A mesh with the one axis `data`, or with the axes `data` and `model`.

    Args:
      devices: how many of the devices, a list of them, or None for all.
      model: how many devices share a model's parameters; None for no such axis.

    Raises: UserError for more devices than there are, fewer than one, or a number that `model` does
    not divide.

    >>> create_mesh(1).size
    1
    >>> create_mesh(1, model=1).axis_names
    ('data', 'model')
    """
    if devices is None or isinstance(devices, int):
        there = jax.devices()
        wanted = len(there) if devices is None else devices
        if not 1 <= wanted <= len(there):
            raise UserError(f"{wanted} devices were asked for; there are {len(there)}")
        devices = there[:wanted]
    if model is None:
        return Mesh(np.array(devices), (DATA_AXIS,), axis_types=(AxisType.Auto,))
    if model < 1 or len(devices) % model:
        raise UserError(
            f"{len(devices)} devices do not divide into models over {model}; take a number of "
            "devices that is a multiple of it"
        )
    parts = np.array(devices).reshape(-1, model)
    return Mesh(parts, (DATA_AXIS, MODEL_AXIS), axis_types=(AxisType.Auto,) * 2)


def data_parts(mesh: Mesh) -> int:
    """In how many parts a batch is divided over the mesh."""
    return mesh.shape[DATA_AXIS]


def replicate(tree, mesh: Mesh):
    """A copy of the tree on every device of the mesh; the given one stays whole."""
    sharding = NamedSharding(mesh, PartitionSpec())
    # Through the host, because device_put may alias what it is given, and steps donate it.
    return jax.device_put(jax.tree.map(np.array, jax.device_get(tree)), sharding)


def is_replicated(tree, mesh: Mesh) -> bool:
    """Whether the tree lies on every device of the mesh already."""
    sharding = NamedSharding(mesh, PartitionSpec())
    return all(getattr(leaf, "sharding", None) == sharding for leaf in jax.tree.leaves(tree))


def split(batch, mesh: Mesh):
    """A copy of the batch with its leading axis divided over the mesh's axis `data`.

    Raises: UserError when the devices do not divide it.
    """
    for leaf in jax.tree.leaves(batch):
        require_divisible(leaf.shape[0], data_parts(mesh))
    # A copy, for device_put may alias an array that its loader fills with the next batch.
    batch = jax.tree.map(lambda x: x.copy() if isinstance(x, np.ndarray) else x, batch)
    return jax.device_put(batch, NamedSharding(mesh, PartitionSpec(DATA_AXIS)))


def stack(batches, mesh: Mesh):
    """The batches as one, `[N, B, …]`, each of them divided over the mesh.

    Raises: UserError when the devices do not divide a batch.
    """
    leaves = jax.tree.leaves(batches)
    for leaf in leaves:
        require_divisible(leaf.shape[0], data_parts(mesh))
    sharding = NamedSharding(mesh, PartitionSpec(None, DATA_AXIS))
    if all(isinstance(leaf, np.ndarray) for leaf in leaves):  # one transfer, not one for each
        return jax.device_put(jax.tree.map(lambda *x: np.stack(x), *batches), sharding)
    return _stack(batches, sharding)


@partial(jax.jit, static_argnums=1)
def _stack(batches, sharding):
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *batches)
    return jax.lax.with_sharding_constraint(stacked, sharding)


def require_divisible(size: int, devices: int) -> None:
    """Refuses a batch that the devices do not divide, with the sizes that they do."""
    if size % devices:
        below = size - size % devices
        sizes = f"{below} or {below + devices}" if below else f"{devices}"
        raise UserError(
            f"a batch of {size} examples does not divide over {devices} devices; "
            f"take {sizes} examples, or fewer devices"
        )


def gather(state):
    """One plain copy of a tree on the host, in NumPy arrays, whatever the strategy.

    >>> import jax.numpy as jnp
    >>> gather({"x": jnp.ones(2)})
    {'x': array([1., 1.], dtype=float32)}
    """
    return jax.tree.map(np.array, jax.device_get(state))
