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
      devices: how many of the devices, as many of each process; a list of them; or None for all.
      model: how many devices share a model's parameters, all of one process; None for no such axis.

    Raises: UserError for more devices than there are, fewer than one, or a number that `model` or
    the processes do not divide.

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
        devices = _first_of_each_process(there, wanted // jax.process_count())
        if len(devices) != wanted:
            raise UserError(
                f"devices are counted over all {jax.process_count()} processes, as many of each: "
                f"{wanted} does not divide by {jax.process_count()}"
            )
    if model is None:
        return Mesh(np.array(devices), (DATA_AXIS,), axis_types=(AxisType.Auto,))
    if model < 1:
        raise UserError(f"a model is over at least 1 device, not {model}")
    if len(devices) % model:
        raise UserError(
            f"{len(devices)} devices do not divide into models over {model}; take a number of "
            "devices that is a multiple of it"
        )
    parts = np.array(devices).reshape(-1, model)
    if any(len({device.process_index for device in copy}) > 1 for copy in parts):
        raise UserError(
            f"each process has {len(jax.local_devices())} devices: a model over {model} would be "
            "sharded among processes, which is not supported"
        )
    return Mesh(parts, (DATA_AXIS, MODEL_AXIS), axis_types=(AxisType.Auto,) * 2)


def data_parts(mesh: Mesh) -> int:
    """In how many parts a batch is divided over the mesh."""
    return mesh.shape[DATA_AXIS]


def _first_of_each_process(devices, share):
    """The first devices of each process, in the order of the processes, as batches are shared."""
    processes = sorted({device.process_index for device in devices})
    return [
        device
        for process in processes
        for device in [x for x in devices if x.process_index == process][:share]
    ]


def process_share(mesh: Mesh) -> tuple[int, int]:
    """Which share of each batch a process reads, and how many shares there are: for the
    `process_index` and `process_count` of `data.batches`.

    >>> process_share(create_mesh(1))
    (0, 1)
    """
    return (jax.process_index(), jax.process_count()) if mesh.is_multi_process else (0, 1)


def replicate(tree, mesh: Mesh):
    """A copy of the tree on every device of the mesh; the given one stays whole. Each process gives
    the same tree."""
    # Through the host, because device_put may alias what it is given, and steps donate it.
    return place_whole(jax.tree.map(np.array, jax.device_get(tree)), mesh, PartitionSpec())


def place_whole(tree, mesh: Mesh, spec: PartitionSpec):
    """Host arrays, which every process has as a whole, as a specification lays them out."""
    sharding = NamedSharding(mesh, spec)
    if not mesh.is_multi_process:
        return jax.device_put(tree, sharding)

    def place(x):
        x = np.asarray(x)
        return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])

    return jax.tree.map(place, tree)


def is_replicated(tree, mesh: Mesh) -> bool:
    """Whether the tree lies on every device of the mesh already."""
    sharding = NamedSharding(mesh, PartitionSpec())
    return all(getattr(leaf, "sharding", None) == sharding for leaf in jax.tree.leaves(tree))


def split(batch, mesh: Mesh):
    """A copy of the batch with its leading axis divided over the mesh's axis `data`. Where that has
    devices of several processes, each gives its share.

    Raises: UserError when the devices do not divide it.
    """
    return _place_shares(batch, mesh, PartitionSpec(DATA_AXIS))


def _place_shares(tree, mesh, spec):
    """Arrays of which each process has its share, along the axis that the data axis divides."""
    sharding, axis = NamedSharding(mesh, spec), len(spec) - 1
    _, shares = process_share(mesh)

    def place(x):
        if isinstance(x, jax.Array) and x.sharding == sharding:
            return x
        require_divisible(x.shape[axis] * shares, data_parts(mesh))
        if shares == 1:
            # A copy, for device_put may alias an array that its loader fills with the next batch.
            return jax.device_put(x.copy() if isinstance(x, np.ndarray) else x, sharding)
        return jax.make_array_from_process_local_data(sharding, np.array(x))

    return jax.tree.map(place, tree)


def stack(batches, mesh: Mesh):
    """The batches as one, `[N, B, …]`, each of them divided over the mesh.

    Raises: UserError when the devices do not divide a batch.
    """
    spec = PartitionSpec(None, DATA_AXIS)
    if all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(batches)):  # in one transfer
        return _place_shares(jax.tree.map(lambda *x: np.stack(x), *batches), mesh, spec)
    return _stack(split(batches, mesh), NamedSharding(mesh, spec))


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

    Where the tree is spread over several processes, each of them has to call it. No device ever has
    more of it besides its own shards than one array, and that only where the processes lack shards.

    >>> import jax.numpy as jnp
    >>> gather({"x": jnp.ones(2)})
    {'x': array([1., 1.], dtype=float32)}
    """
    return jax.tree.map(_fetch, state)


def _fetch(x):
    """An array on the host, of which other processes may have shards."""
    if not isinstance(x, jax.Array) or x.is_fully_addressable or x.is_fully_replicated:
        return np.array(jax.device_get(x))
    if not _is_whole_in_each_process(x):
        whole = NamedSharding(x.sharding.mesh, PartitionSpec())
        return np.array(jax.device_get(_reshard(x, whole)))
    found = np.empty(x.shape, x.dtype)
    for shard in {_start(shard.index): shard for shard in x.addressable_shards}.values():
        found[shard.index] = shard.data
    return found


def _is_whole_in_each_process(x) -> bool:
    """Whether each process has the same shards of an array, which then are all of them."""
    starts = {}
    for device, index in x.sharding.devices_indices_map(x.shape).items():
        starts.setdefault(device.process_index, set()).add(_start(index))
    first, *others = starts.values()
    return all(other == first for other in others)


def _start(index) -> tuple[int, ...]:
    """Where a shard begins, which tells it from others; slices have no hash before Python 3.12."""
    return tuple(axis.start or 0 for axis in index)


@partial(jax.jit, static_argnums=1)
def _reshard(x, sharding):
    return jax.lax.with_sharding_constraint(x, sharding)
