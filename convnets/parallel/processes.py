"""Many processes, on one host or on many, that train as one.

They are JAX's own: every process runs the same program, has some of the devices, and takes part in
each collective. What is decided from time, files or signals is decided by process 0 for all.
"""

import atexit
import contextlib
import functools
import os
import sys
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ..errors import UserError, first_line
from . import jax_internals
from .placement import create_mesh, gather
from .process_group import ProcessGroup
from .rendezvous import meet, parse_address

CONNECT_TIMEOUT = 120.0  # seconds
HEARTBEAT_TIMEOUT = 60  # seconds without JAX's own sign of life, after which JAX ends all
CHUNK = 2**24  # bytes of a broadcast in one collective
_CONNECTIONS = []  # of this process to the others: they are to stay open until it ends


def connect(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    timeout: float = CONNECT_TIMEOUT,
) -> None:
    """Makes this process one of several that train as one. To be called before JAX's first
    operation, on every process; `fit` then works on all of them as on one.

    Args:
      coordinator: `HOST:PORT` by which the others reach process 0, on whose host it is run. Nothing
        listens on another address: if that is loopback, nothing can be reached from outside.
      num_processes, process_id: how many there are, and which of them this one is, from 0 on.
      timeout: seconds until processes that have not come are an error.

    What is None is taken from the cluster, where JAX detects one (Slurm, Open MPI, TPU,
    Kubernetes). `JAX_COORDINATOR_BIND_ADDRESS` names another address for process 0 to listen on,
    where its host does not have the one that the others use. The ports are not authenticated: keep
    them in a private network.

    Raises: UserError for what does not fit together, a coordinator that does not answer, and
    processes that are missing or there twice.

    >>> connect("127.0.0.1:8476", num_processes=2, process_id=2)
    Traceback (most recent call last):
    ...
    convnets.errors.UserError: process_id is from 0 to 1 in a run of 2 processes, not 2
    """
    local_devices = None
    if None in (coordinator, num_processes, process_id):
        found = detect_cluster(coordinator, num_processes, process_id)
        coordinator, num_processes, process_id, local_devices = found
    given = {"coordinator": coordinator, "num_processes": num_processes, "process_id": process_id}
    missing = [name for name, value in given.items() if value is None]
    if missing:
        raise UserError(
            f"several processes need coordinator, num_processes and process_id: give "
            f"{' and '.join(missing)}, for no cluster (Slurm, Open MPI, TPU, Kubernetes) was found"
        )
    if num_processes < 1:
        raise UserError(f"num_processes is at least 1, not {num_processes}")
    if not 0 <= process_id < num_processes:
        raise UserError(
            f"process_id is from 0 to {num_processes - 1} in a run of {num_processes} processes, "
            f"not {process_id}"
        )
    host, port = parse_address(coordinator)
    if is_connected():
        raise UserError("this process is connected already")
    bind = os.environ.get("JAX_COORDINATOR_BIND_ADDRESS", coordinator)
    listen = parse_address(bind) if process_id == 0 else (host, port)
    own, connections = meet(*listen, num_processes, process_id, timeout=timeout)
    # JAX's own notice of a signal would take SIGTERM from Python for good.
    jax.config.update("jax_enable_preemption_service", False)
    jax.distributed.initialize(
        coordinator,
        num_processes,
        process_id,
        local_device_ids=local_devices,
        cluster_detection_method="deactivate",
        initialization_timeout=int(timeout) + 1,
        heartbeat_timeout_seconds=HEARTBEAT_TIMEOUT,
        coordinator_bind_address=bind,
    )
    if own not in ("0.0.0.0", "::"):
        jax_internals.keep_collectives_on(own)
    _CONNECTIONS.extend(connections)
    _process_group()
    warm_up_collectives(create_mesh())


def detect_cluster(coordinator=None, num_processes=None, process_id=None) -> tuple:
    """What is given, and else what the cluster says that JAX detects; see `jax_internals`."""
    coordinator = coordinator or os.environ.get("JAX_COORDINATOR_ADDRESS")
    given = (coordinator, num_processes, process_id)
    return jax_internals.detect_cluster(*given, timeout=int(CONNECT_TIMEOUT))


@functools.cache
def _process_group() -> ProcessGroup:
    """This process's group, which is told of what ends the process."""
    group = ProcessGroup(*jax_internals.coordination(), _CONNECTIONS)
    hook = sys.excepthook

    def tell(kind, error, trace):
        group.end(f"process {group.index} of {group.count} ended with: {first_line(error)}")
        hook(kind, error, trace)

    def leave():
        group.leave()
        if group.failed:
            jax_internals.abandon_coordination()

    sys.excepthook = tell
    atexit.register(leave)
    return group


@functools.cache
def warm_up_collectives(mesh: Mesh) -> None:
    """Has the processes of a mesh open the connections of its collectives, all at the same time.

    They would do so in the first step, where gloo gives up after 30 seconds; one may take longer to
    compile it than another. Every process has to call it for the same meshes.
    """
    if not mesh.is_multi_process:
        return
    names = mesh.axis_names
    whole = NamedSharding(mesh, PartitionSpec(*names))
    ones = jax.jit(lambda: jnp.ones(mesh.devices.shape), out_shardings=whole)()
    for axes in dict.fromkeys([names, *((name,) for name in names)]):
        rest = PartitionSpec(*(None if name in axes else name for name in names))
        total = jax.shard_map(
            functools.partial(lax.psum, axis_name=axes),
            mesh=mesh,
            in_specs=whole.spec,
            out_specs=rest,
        )
        total = jax.jit(total).lower(ones).compile()
        wait_for_others("the first collective")
        jax.block_until_ready(total(ones))


def is_connected() -> bool:
    """Whether this process has been connected with others.

    >>> is_connected()
    False
    """
    return jax.distributed.is_initialized()


def _are_many() -> bool:
    return is_connected() and jax.process_count() > 1


def is_first() -> bool:
    """Whether this is process 0, which alone writes and prints; true of a process by itself.

    >>> is_first()
    True
    """
    return not _are_many() or jax.process_index() == 0


def first_decides(decision: Callable, what: str = "a decision"):
    """What `decision()` returns on process 0, on every process; elsewhere it is not called.

    Args:
      decision: returns JSON data. A UserError of it is raised on every process.
      what: the name of what is decided, by which processes that do not do the same are found out.

    >>> first_decides(lambda: {"step": 3})
    {'step': 3}
    """
    return _process_group().decide(decision, what) if _are_many() else decision()


def all_agree(check: Callable[[], None], what: str) -> None:
    """Makes a check on every process, and raises the UserError of one that refuses on all.

    >>> all_agree(lambda: None, "the settings")
    """
    if _are_many():
        _process_group().agree(check, what)
    else:
        check()


def wait_for_others(what: str = "a barrier") -> None:
    """Returns when every process has come here; at once for a process by itself. To be called
    before what process 0 has written is read by others. For `what` see `first_decides`."""
    if _are_many():
        _process_group().wait_for_others(what)


def broadcast_arrays(tree):
    """Process 0's values of a tree of arrays, bit for bit, on every process.

    Args:
      tree: on every process of the same structure, shapes and types.

    Returns: the tree in NumPy arrays; as it is for a process by itself, and where each array is one
    of all processes together, as those of `create_sharded`.
    """
    if not _are_many() or all(map(_is_of_all, jax.tree.leaves(tree))):
        return tree
    leaves, treedef = jax.tree.flatten(gather(tree))
    arrays = [np.asarray(leaf, order="C") for leaf in leaves]
    sizes = np.cumsum([array.nbytes for array in arrays])
    size = -(-int(sizes[-1]) // 4) * 4
    data = np.zeros(size if size <= CHUNK else -(-size // CHUNK) * CHUNK, np.uint8)
    for array, end in zip(arrays, sizes):
        data[end - array.nbytes : end] = array.reshape(-1).view(np.uint8)
    # As integers, whose sum with the zeros of the others changes no bit: -0.0 + 0.0 is 0.0.
    for part in np.split(data, max(1, len(data) // CHUNK)):
        part[:] = multihost_utils.broadcast_one_to_all(part.view(np.uint32)).view(np.uint8)
    parts = (data[end - x.nbytes : end].copy() for x, end in zip(arrays, sizes))
    values = [part.view(x.dtype).reshape(np.shape(x)) for part, x in zip(parts, arrays)]
    return jax.tree.unflatten(treedef, values)


def _is_of_all(x) -> bool:
    return isinstance(x, jax.Array) and not x.is_fully_addressable


def stopping(received: Callable[[], int | None]):
    """A context for a training: `number -> signal`, the same on every process; see `ProcessGroup`.

    >>> with stopping(lambda: 15) as signal_after:
    ...     signal_after(3)
    15
    """
    if _are_many():
        return _process_group().stopping(received)
    return contextlib.nullcontext(lambda number: received())


def ending_together(hint: Callable[[], str] = lambda: ""):
    """A context in which the error of one process ends all, and LostProcessError names a process
    that died; `hint()` is added to its message. Nothing changes for a process by itself."""
    return _process_group().ending_together(hint) if _are_many() else contextlib.nullcontext()
