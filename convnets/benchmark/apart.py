"""A contestant in a process of its own, as its users have it: with its own threads and memory.

Ours keeps freed memory (`parallel.keep_memory`), which would serve a peer in the same process too.
"""

import multiprocessing
import signal

import jax

from .timing import Contestant
from .workloads import Workload


def start_apart(peer, workload: Workload) -> Contestant:
    """What `peer.start(workload)` returns, started and run in another process.

    On an accelerator it is started in this one, for two processes do not share its memory well.
    The process ends with this one, or when the contestant is forgotten.

    Raises: whatever starting it raises; RuntimeError when the process ends by itself.
    """
    if jax.default_backend() != "cpu":
        return peer.start(workload)
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, peer.__name__, workload), daemon=True)
    process.start()
    theirs.close()

    def receive():
        try:
            answer = ours.recv()
        except EOFError:
            process.join()
            raise RuntimeError(f"{peer.__name__} ended with status {process.exitcode}") from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def run(steps):
        ours.send(steps)
        receive()

    return receive()._replace(run=run)


def _serve(connection, peer: str, workload: Workload) -> None:
    """Runs as many steps as it is asked for, until nobody asks any more."""
    import importlib

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the other process ends this one
    try:
        contestant = importlib.import_module(peer).start(workload)
        connection.send(contestant._replace(run=None))
        while True:
            contestant.run(connection.recv())
            connection.send(None)
    except (EOFError, BrokenPipeError):
        return
    except Exception as error:
        connection.send(error)
