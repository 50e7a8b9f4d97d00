"""What a worker of a parameter server does: fetch, compute gradients, push."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from .. import metrics
from .compilation import compiler_options
from .gate import GO, STOP
from .parameter_server import join, on_device, on_host

WAIT_SECONDS = 0.01  # between two questions at the gate


class Task(NamedTuple):
    """What all workers do, each on its share of the data.

    Attributes:
      gradient: `(params, batch_stats, step, batch) -> grads, batch_stats, metrics`, pure; `step` is
        the batch's place in the run, an int32 scalar; the metrics have a `loss`.
      limit: `(grads, params) -> grads` of a push: how gradients are clipped.
      read: `place -> batch` on the host.
      workers: how many there are.
      push_every, fetch_every: in steps of a worker.
      start: the place of the first batch in the run.
      warm_start: steps, a multiple of `push_every`, that the worker 0 does alone at the beginning.
    """

    gradient: Callable
    limit: Callable
    read: Callable[[int], Any]
    workers: int
    push_every: int = 1
    fetch_every: int = 1
    start: int = 0
    warm_start: int = 0

    @property
    def begun(self) -> tuple[int, ...]:
        """The number of pushes that each worker begins with: the warm start is passed over by all
        but the first."""
        rest = self.warm_start // self.push_every
        return (0, *[rest] * (self.workers - 1))

    def place(self, worker: int, step: int) -> int:
        """The place in the run of the batch of a worker's step. Together the workers' batches are
        all places, each once.

        >>> task = Task(None, None, None, workers=2, start=10, warm_start=2)
        >>> [task.place(0, step) for step in range(4)], [task.place(1, step) for step in (2, 3)]
        ([10, 11, 12, 14], [13, 15])
        """
        after = step - self.warm_start
        if after < 0:
            return self.start + step
        return self.start + self.warm_start + after * self.workers + worker

    def steps(self, done) -> int:
        """Batches that workers have seen together after so many pushes of each.

        >>> Task(None, None, None, workers=2, push_every=3, warm_start=6).steps((4, 3))
        15
        """
        return sum(number - first for number, first in zip(done, self.begun)) * self.push_every

    def until(self, step: int) -> int:
        """The number of pushes of each worker after which they have seen so many batches, or just
        more, since the start.

        >>> Task(None, None, None, workers=2, push_every=3, warm_start=6).until(15)
        4
        """
        warm = self.warm_start // self.push_every
        if step <= self.warm_start:
            return -(-step // self.push_every)
        return warm + -(-(step - self.warm_start) // (self.workers * self.push_every))


class Fetched(NamedTuple):
    """Parameters and batch statistics of all shards, and the version of each."""

    versions: tuple[int, ...]
    params: dict
    batch_stats: dict


class Server(Protocol):
    """What a worker sees of the server."""

    def enter(self, worker: int, number: int) -> str: ...

    def finish(self, worker: int, number: int) -> None: ...

    def fetch(self) -> Fetched: ...

    def push(self, worker, number, versions, grads, batch_stats, measured: dict) -> None: ...


def join_fetched(parts) -> Fetched:
    """What was fetched of each shard, `(version, params, batch_stats)`, as one, on the device."""
    versions, params, batch_stats = zip(*parts)
    return Fetched(versions, on_device(join(params)), on_device(join(batch_stats)))


def mean_loss(measured: dict) -> float:
    """The mean loss of metrics on the host.

    >>> mean_loss({"loss": (3.0, 2)})
    1.5
    """
    total, count = measured["loss"]
    return float(total / count)


def compile_task(task: Task) -> tuple[Callable, Callable]:
    """The task's gradient, added to a sum of others, and the mean of so many, clipped: compiled."""

    def add(grads, params, batch_stats, step, batch):
        more, batch_stats, measured = task.gradient(params, batch_stats, step, batch)
        grads = more if grads is None else jax.tree.map(jnp.add, grads, more)
        return grads, batch_stats, measured

    def finish(grads, params):
        if task.push_every > 1:
            grads = jax.tree.map(lambda x: x / task.push_every, grads)
        return task.limit(grads, params)

    options = compiler_options(jax.default_backend())
    return jax.jit(add, compiler_options=options), jax.jit(finish)


def work(task: Task, compiled, server: Server, worker: int, number: int, until: int) -> int:
    """Computes and pushes until a worker has made `until` pushes, or is told to stop.

    Args:
      task: what to do.
      compiled: from `compile_task`.
      server: where to fetch from and push to.
      worker: which it is.
      number: of the last push that it made.
      until: of the last one to make.

    Returns: the number of the last push made.

    Between two fetches parameters stand still, batch statistics run on. Differs: in Dean et al.'s
    algorithm 7.1 a worker also goes the accrued gradient's way by itself between fetches, at a
    plain rate which the optimizer of the server does not have; and pushes are sums, not means.
    """
    held = None
    while number < until:
        word = server.enter(worker, number)
        if word == STOP:
            break
        if word != GO:
            time.sleep(WAIT_SECONDS)
            continue
        held, push = compute_push(task, compiled, server, worker, number, held)
        number += 1
        server.push(worker, number, *push)
    server.finish(worker, number)
    return number


def compute_push(task: Task, compiled, server: Server, worker: int, number: int, held=None):
    """What a worker that has made so many pushes sends next.

    Args:
      held: the `Fetched` of before, None for nothing.

    Returns: the `Fetched` that is held now, and `versions, grads, batch_stats, measured`.
    """
    add, finish = compiled
    grads, versions, totals = None, None, {}  # a single gradient is added to nothing
    for step in range(number * task.push_every, (number + 1) * task.push_every):
        if held is None or step % task.fetch_every == 0:
            before, held = held, server.fetch()
            if before is not None and step % task.push_every:  # what was seen since the last push
                held = held._replace(batch_stats=before.batch_stats)
        versions = versions or held.versions
        if grads is None and task.push_every > 1:
            grads = jax.tree.map(jnp.zeros_like, held.params)
        place = task.place(worker, step)
        grads, batch_stats, measured = add(
            grads, held.params, held.batch_stats, jnp.int32(place), task.read(place)
        )
        held = held._replace(batch_stats=batch_stats)
        measured = metrics.to_host(measured)
        totals = metrics.add(totals, measured) if totals else measured
    grads = on_host(finish(grads, held.params))
    return held, (versions, grads, on_host(held.batch_stats), totals)
