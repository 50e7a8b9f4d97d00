"""The processes of a parameter server: what a shard, a worker and a gate do as Ray's actors."""

import contextlib
import os
import time
from collections.abc import Callable

import jax

from ..errors import UserError
from .caching import cache_compilations
from .memory import keep_memory
from .parameter_server import Push, apply_push, divide_push, make_update, on_host
from .shard_files import read_shard, write_shard
from .workers import Fetched, Task, compile_task, compute_push, join_fetched, mean_loss, work

PATIENCE = 0.2  # seconds between two calls of an actor that is coming back


class ServerShard:
    """A shard in a process of its own, made from its file whenever the process begins."""

    def __init__(self, index: int, path: str, optimizer, workers: int, gate):
        import ray

        cache_compilations()
        self._shard, self._path = read_shard(path, optimizer), path
        self._update = make_update(optimizer, workers)
        ray.get(gate.arrive.remote(f"shard {index}", os.getpid()))

    def pull(self) -> tuple:
        """Version, parameters and batch statistics."""
        return self._shard.counts.applied, *on_host(self._shard[:2])

    def push(self, push: Push) -> None:
        """Applies a push; the answer comes once that is done."""
        self._shard = apply_push(self._shard, push, self._update)
        jax.block_until_ready(self._shard.params)

    def last_numbers(self) -> tuple[int, ...]:
        """Of each worker the number of the last push that was applied."""
        return self._shard.counts.numbers

    def read(self) -> tuple:
        """Its trees on the host, and its counts."""
        return on_host(self._shard[:3]), self._shard.counts

    def save(self) -> None:
        """Writes the file from which the shard would be restored."""
        write_shard(self._path, self._shard)


class GradientWorker:
    """A worker in a process of its own, which goes on after its last push that was applied."""

    def __init__(self, index: int, task: Task, shards: list, paths, gate):
        keep_memory()
        cache_compilations()
        self._index, self._task = index, task
        self._server = RemoteServer(shards, paths, gate)
        self._compiled = None
        self._number = max(numbers[index] for numbers in self._server.ask_all("last_numbers"))
        call("the gate", gate.arrive, f"worker {index}", os.getpid())

    def run(self, until: int) -> int:
        """Works until so many pushes are made, or the gate says stop; the number of the last."""
        doing = (self._server, self._index, self._number)
        if self._compiled is None and self._number < until:
            self._compiled = compile_task(self._task)
            # One push for nothing: else the first would grow old while its gradient is compiled.
            compute_push(self._task, self._compiled, *doing)
        self._number = work(self._task, self._compiled, *doing, until)
        return self._number


class RemoteServer:
    """Shards and gate as a worker sees them: the calls, made again while a shard comes back."""

    def __init__(self, shards: list, paths, gate):
        self._shards, self._paths, self._gate = shards, paths, gate

    def ask_all(self, method: str) -> list:
        """What every shard answers."""
        return call_all(names("shard", self._shards), [getattr(x, method) for x in self._shards])

    def enter(self, worker: int, number: int) -> str:
        return call("the gate", self._gate.enter, worker, number)

    def finish(self, worker: int, number: int) -> None:
        call("the gate", self._gate.finish, worker, number)

    def fetch(self) -> Fetched:
        return join_fetched(self.ask_all("pull"))

    def push(self, worker, number, versions, grads, batch_stats, measured) -> None:
        value = mean_loss(measured)
        pushes = divide_push(self._paths, worker, number, versions, grads, batch_stats, value)
        call("the gate", self._gate.announce, worker, number, measured)
        call_all(
            names("shard", self._shards),
            [shard.push for shard in self._shards],
            [(push,) for push in pushes],
            again=lambda: call("the gate", self._gate.repeat),
        )


def names(kind: str, actors: list) -> list[str]:
    """What actors are called, as `shard 0`."""
    return [f"{kind} {index}" for index in range(len(actors))]


def call(name: str, method, *args):
    """What an actor's method answers; see `call_all`."""
    return call_all([name], [method], [args])[0]


def call_all(
    names: list[str],
    methods: list,
    args: list[tuple] | None = None,
    *,
    again: Callable[[], None] = lambda: None,
) -> list:
    """What methods of several actors answer, asked at once; those that are coming back, once more.

    Args:
      names: of the actors, for errors.
      methods: of their handles.
      args: of each.
      again: called before an actor is asked once more.

    Raises: UserError for an actor that will not come back, and of an actor, by its name.
    """
    import ray

    args = [()] * len(methods) if args is None else args
    waiting = {index: method.remote(*args[index]) for index, method in enumerate(methods)}
    answers = {}
    while waiting:
        for index, ref in list(waiting.items()):
            try:
                with naming(names[index]):
                    answers[index] = ray.get(ref)
                del waiting[index]
            except ray.exceptions.ActorUnavailableError:
                time.sleep(PATIENCE)
                again()
                waiting[index] = methods[index].remote(*args[index])
    return [answers[index] for index in range(len(methods))]


@contextlib.contextmanager
def naming(name: str):
    """Within, the end of an actor, gone for good, and its own UserErrors are UserErrors by its
    name."""
    import ray

    try:
        yield
    except ray.exceptions.ActorDiedError as error:
        raise died(name, error) from None
    except ray.exceptions.RayTaskError as error:  # whose message is a traceback
        if isinstance(error.cause, UserError):
            raise UserError(f"{name}: {error.cause}") from None
        raise


def died(name: str, error: Exception) -> UserError:
    """The error for an actor that is gone for good."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return UserError(f"{name} of the parameter server died and will not come back: {lines[-1]}")
