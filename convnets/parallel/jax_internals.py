"""What several processes need of JAX and it has no public names for; tried on 0.10.2 and 0.12.0.

Where another JAX has other names, or other arguments, several processes are refused, and a process
by itself goes on.
"""

import contextlib
import ctypes
import warnings

import jax
from jax.extend.backend import register_backend_factory

from ..errors import UserError, first_line


@contextlib.contextmanager
def _known_names():
    try:
        yield
    except (ImportError, AttributeError, TypeError) as error:
        raise UserError(
            f"JAX {jax.__version__} is not supported for several processes: {first_line(error)}; "
            "0.10.2 and 0.12.0 are"
        ) from error


def detect_cluster(
    coordinator: str | None, num_processes: int | None, process_id: int | None, *, timeout: int
) -> tuple:
    """What is given, and else what the cluster says that JAX detects: `coordinator`,
    `num_processes`, `process_id`, and which devices of its host are a process's own; None where it
    says nothing.

    Raises: UserError where this JAX is not supported and something is given; else it is a warning,
    and there is no cluster.
    """
    try:
        return _detect_cluster(coordinator, num_processes, process_id, timeout)
    except UserError as error:
        if (coordinator, num_processes, process_id) != (None, None, None):
            raise
        warnings.warn(f"no cluster is looked for: {error}", stacklevel=2)
        return None, None, None, None


@_known_names()
def _detect_cluster(coordinator, num_processes, process_id, timeout):
    from jax._src.clusters import ClusterEnv

    return ClusterEnv.auto_detect_unset_distributed_params(
        coordinator_address=coordinator,
        num_processes=num_processes,
        process_id=process_id,
        local_device_ids=None,
        cluster_detection_method=None,
        initialization_timeout=timeout,
    )


@_known_names()
def keep_collectives_on(address: str) -> None:
    """Has the collectives of CPUs listen on one address; JAX takes that of the host's name."""
    from jax._src.distributed import global_state
    from jax._src.lib import _jax
    from jax._src.xla_bridge import make_cpu_client

    make_collectives = _jax.make_gloo_tcp_collectives

    def make_client():
        client = global_state.client
        return make_cpu_client(make_collectives(distributed_client=client, hostname=address))

    register_backend_factory("cpu", make_client, priority=0, fail_quietly=False)


@_known_names()
def coordination() -> tuple:
    """The client of JAX's coordination service, which of its processes this one is, and how many
    there are."""
    from jax._src.distributed import global_state

    return global_state.client, global_state.process_id, global_state.num_processes


def abandon_coordination() -> None:
    """Has JAX not wait for the others when this process ends, nor abort when its service goes."""
    from jax._src.distributed import global_state

    for kept in (global_state.client, global_state.service):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))
    global_state.client = global_state.service = None
