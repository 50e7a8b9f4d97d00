"""Ray, started on this machine's loopback or found at an address."""

import contextlib
import os
import signal
import socket
import tempfile
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import jax

from ..errors import UserError, first_line

LEAST_BYTES = 200 * 2**20  # of memory for objects on their way; Ray takes no less than 75 MiB
ANSWERING = 10.0  # seconds that a cluster has to answer; Ray itself would try for minutes
SHORT = 40  # letters of a folder in which a socket's path still fits into the 107 of Unix


def import_ray():
    """Ray, told beforehand to stay on the loopback and to report nothing.

    Raises: UserError that says how to install it.
    """
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what matters is raised as well
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError:
        raise UserError(
            "the parameter server runs on Ray, which is not installed: pip install -e '.[ray]' "
            "in the folder of convnets"
        ) from None
    return ray


@contextlib.contextmanager
def connected(address: str | None, payload) -> Iterator[tuple[object, Path]]:
    """Ray for the time being.

    Args:
      address: of a cluster that runs already, as `ray start --head` tells it; None starts one on
        this machine, whose ports listen on 127.0.0.1 alone, and ends it on leaving.
      payload: what is sent first, by which the memory for objects is measured.

    Yields: the module `ray`, and a folder of this machine for what is to be forgotten.

    A Ray that the process is connected to already is used as it is, and left so. Signals are
    handled as before: Ray would put its own handlers in their place.

    Raises: UserError where Ray is not installed, cannot start, or is not at the address, and for a
    payload that cannot be sent.
    """
    ray = import_ray()
    object_bytes = _size(ray, payload)
    if address and not ray.is_initialized():
        _require_answer(address)
    with contextlib.ExitStack() as stack:
        parent = tempfile.gettempdir()
        folder = stack.enter_context(
            tempfile.TemporaryDirectory(
                prefix="convnets-",
                dir=parent if len(parent) < SHORT else "/tmp",
                ignore_cleanup_errors=True,  # Ray's last processes may still be writing
            )
        )
        if not ray.is_initialized():
            options = {"address": address} if address else _on_loopback(folder, object_bytes)
            with _own_signals(), warnings.catch_warnings():
                # Of JAX, about threads and forks; the forks become other programs at once.
                warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
                try:
                    ray.init(log_to_driver=False, logging_level="error", **options)
                except (ConnectionError, OSError, RuntimeError, ValueError) as error:
                    where = f"at {address} cannot be reached" if address else "cannot be started"
                    raise UserError(f"Ray {where}: {first_line(error)}") from error
            stack.callback(ray.shutdown)
        yield ray, Path(folder)


def _require_answer(address):
    """Refuses an address where nobody listens; others, as Ray's `auto`, are Ray's to find."""
    host, colon, port = address.rpartition(":")
    if "://" in address or not (colon and port.isdecimal() and int(port) < 2**16):
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWERING).close()
    except OSError as error:
        raise UserError(
            f"no Ray cluster answers at {address} ({error.strerror or error}): start it with "
            "ray start --head"
        ) from None


def _size(ray, payload):
    """The bytes of arrays and all else that is to be sent."""
    arrays = []
    try:
        rest = ray.cloudpickle.dumps(payload, protocol=5, buffer_callback=arrays.append)
    except (TypeError, AttributeError, ValueError) as error:
        raise UserError(
            f"the model, the data or the options cannot be sent to workers: {first_line(error)}"
        ) from error
    return len(rest) + sum(array.raw().nbytes for array in arrays)


def _on_loopback(folder, object_bytes):
    return {
        "address": "local",
        "_node_ip_address": "127.0.0.1",
        "include_dashboard": False,
        "object_store_memory": LEAST_BYTES + 2 * object_bytes,
        "_temp_dir": folder,
    }


@contextlib.contextmanager
def _own_signals():
    """Puts the handlers of before back."""
    here = threading.current_thread() is threading.main_thread()
    numbers = (signal.SIGINT, signal.SIGTERM) if here else ()
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def environment(processes: int | None) -> dict[str, str]:
    """The variables of an actor's process: the platform of this one, one device of a CPU, its share
    of the threads, and no more of a GPU's memory than it uses.

    Args:
      processes: among how many to divide this machine's cores; None where they are on others.
    """
    flags = os.environ.get("XLA_FLAGS", "").split()
    flags = [flag for flag in flags if "force_host_platform_device_count" not in flag]
    variables = {"XLA_FLAGS": " ".join(flags), "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    for name in ("JAX_PLATFORMS", "CONVNETS_LOWERING"):
        if name in os.environ:
            variables[name] = os.environ[name]
    if processes is not None:
        threads = str(max(1, len(os.sched_getaffinity(0)) // processes))
        variables |= {"NPROC": threads, "OMP_NUM_THREADS": threads}
    return variables


def gpus_of_a_worker(ray, workers: int) -> float:
    """How many of the cluster's GPUs each worker gets: one, or where there are fewer, its part of
    one; 0 where JAX computes on another platform."""
    if jax.default_backend() != "gpu":
        return 0
    return min(1, ray.cluster_resources().get("GPU", 0) / workers)
