"""Downpour: asynchronous SGD, workers and shards of a parameter server as processes under Ray.

Reference: Dean et al. 2012, "Large scale distributed deep networks", section 4.1. Differs: a shard
keeps whole arrays, not a range of keys; a worker waits for its fetches and for its pushes to be
applied, where theirs go on beside the computation; a worker that died is started again.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import optax

from ..errors import UserError
from .actors import GradientWorker, ServerShard, call, call_all, names, naming
from .gate import Announced, Gate, Sent
from .parameter_server import Counts, Shard, add_histograms, paths_of
from .ray_cluster import connected, environment, gpus_of_a_worker
from .shard_files import counts_from_json, counts_to_json, shard_file, write_shard
from .workers import Task

RESTARTS = 10  # of each worker and of each shard
POLL_SECONDS = 0.2


class Report(NamedTuple):
    """What has become of all pushes: each was sent to every shard, and counts once for each.

    Attributes:
      sent: as the workers announced them. Where nothing went wrong in the counting, they are those
        applied and those lost.
      repeated: messages with a push that was sent before, for no answer came.
      applied, dropped, ahead, staleness: sums of the shards' `Counts`.
      lost: those that the shards' counts do not hold: they died on the way, or with the worker, or
        with the shard after it had applied them.
      restarts: how often each actor was started again, as `{"worker 1": 1}`.
      shards: the counts of each.
    """

    sent: int
    repeated: int
    applied: int
    dropped: int
    lost: int
    ahead: int
    staleness: dict[int, int]
    restarts: dict[str, int]
    shards: list[Counts]

    def describe(self) -> str:
        """The sums in a line."""
        ages = sum(age * many for age, many in self.staleness.items())
        mean = ages / max(sum(self.staleness.values()), 1)
        text = (
            f"pushes to shards: {self.sent:,} sent, {self.applied:,} applied, {self.lost:,} lost; "
            f"{self.repeated:,} repeated, {self.dropped:,} dropped; "
            f"staleness {mean:.2f} on average"
        )
        again = [f"{name} ({many})" for name, many in self.restarts.items()]
        return text + (f"; started again: {', '.join(again)}" if again else "")

    def as_json(self) -> dict:
        """What a line of `metrics.jsonl` says."""
        fields = self._asdict()
        del fields["shards"]
        staleness = {str(age): many for age, many in self.staleness.items()}
        return fields | {"staleness": staleness}


def make_report(counts: list[Counts], heard: Announced) -> Report:
    """The report while nothing is on its way.

    >>> counts = [Counts((3,), applied=2, dropped=1, missing=1, staleness={0: 2})]
    >>> heard = Announced((3,), Sent((3,), pushes=3, repeated=2), {}, {}, {"worker 0": 2})
    >>> make_report(counts, heard).describe()
    'pushes to shards: 3 sent, 2 applied, 1 lost; 2 repeated, 1 dropped; staleness 0.00 on \
average; started again: worker 0 (1)'
    """
    behind = [sum(heard.sent.numbers) - sum(each.numbers) for each in counts]
    return Report(
        sent=heard.sent.pushes * len(counts),
        repeated=heard.sent.repeated,
        applied=sum(each.applied for each in counts),
        dropped=sum(each.dropped for each in counts),
        lost=sum(each.missing for each in counts) + sum(behind),
        ahead=sum(each.ahead for each in counts),
        staleness=add_histograms([each.staleness for each in counts]),
        restarts={name: births - 1 for name, births in heard.births.items() if births > 1},
        shards=counts,
    )


class Downpour:
    """A parameter server and its workers, under way; `run_downpour` starts one.

    Attributes:
      done: of each worker the number of its last push.
    """

    def __init__(self, ray, shards: list, workers: list, gate, done: tuple[int, ...]):
        self._ray, self._shards, self._workers, self._gate = ray, shards, workers, gate
        self.done, self._paused = done, False

    def start(self, stop: Callable[[], object] = lambda: None) -> bool:
        """Waits until shards and workers have begun, or until `stop` answers: then it is False.

        Raises: UserError for one that died.
        """
        actors = {f"shard {index}": shard for index, shard in enumerate(self._shards)}
        actors |= {f"worker {index}": worker for index, worker in enumerate(self._workers)}
        starting = {actor.__ray_ready__.remote(): name for name, actor in actors.items()}
        while starting and not stop():
            for ref in self._ray.wait(list(starting), timeout=POLL_SECONDS)[0]:
                name = starting.pop(ref)
                if not self._is_done(name, ref):
                    starting[actors[name].__ray_ready__.remote()] = name
        return not starting

    def run(
        self,
        until: int,
        *,
        tick: Callable[[Announced], None] = lambda heard: None,
        stop: Callable[[], object] = lambda: None,
    ) -> None:
        """Has every worker work until it has made so many pushes; then nothing is on its way.

        Args:
          until: the number of the last push.
          tick: called some times a second with what the gate has heard.
          stop: asked as often; where it answers, every worker ends after its push under way, and
            one that still starts is not waited for.

        Raises: UserError for a worker or a shard that died too often, and for what a user can mend
        in what the workers do.
        """
        if self._paused:  # for those that were not waited for
            self._pause(False)
        running = {worker.run.remote(until): index for index, worker in enumerate(self._workers)}
        late = {}
        while running:
            finished, _ = self._ray.wait(list(running), timeout=POLL_SECONDS)
            for ref in finished:
                index = running.pop(ref)
                if not self._is_done(f"worker {index}", ref):
                    running[self._workers[index].run.remote(until)] = index
            if not self._paused and stop():
                self._pause()
            heard = self.hear()
            tick(heard)
            if self._paused:
                late |= {ref: i for ref, i in running.items() if i not in heard.entered}
                running = {ref: i for ref, i in running.items() if ref not in late}
        if self._paused and not late:
            self._pause(False)
        heard = self.hear()
        self.done = heard.done
        tick(heard)

    def _pause(self, paused=True):
        call("the gate", self._gate.pause, paused)
        self._paused = paused

    def hear(self) -> Announced:
        """What the gate has heard; the sums of metrics begin anew."""
        return call("the gate", self._gate.read)

    def read(self) -> list[Shard]:
        """All shards, on the host."""
        found = self._ask_shards("read")
        return [Shard(*trees, counts) for trees, counts in found]

    def save(self) -> None:
        """Has every shard write the file from which it would be restored."""
        self._ask_shards("save")

    def _ask_shards(self, method):
        methods = [getattr(shard, method) for shard in self._shards]
        return call_all(names("shard", self._shards), methods)

    def _is_done(self, name, ref) -> bool:
        """Whether an actor has done what was asked; not if it died, and is coming back."""
        try:
            with naming(name):
                self._ray.get(ref)
        except self._ray.exceptions.ActorUnavailableError:
            return False
        return True


@contextlib.contextmanager
def run_downpour(
    task: Task,
    optimizer: optax.GradientTransformation,
    shards: list[Shard],
    *,
    folder: Path | None = None,
    address: str | None = None,
    sent: Sent | None = None,
    staleness_bound: int | None = None,
) -> Iterator[Downpour]:
    """Starts shards and workers; on leaving they are gone.

    Args:
      task: what workers do.
      optimizer: of the shards.
      shards: from `create_shards`, with the counts to go on from.
      folder: for the shards' files; None for one that is forgotten. With processes on several
        machines, one that all of them see.
      address: of a Ray cluster; None starts one on this machine.
      sent: what workers have announced before.
      staleness_bound: see `Gate`.

    A worker that dies is started again and goes on after its last push that was applied; a shard
    that dies is restored from its file, which is there from the beginning, and what it had taken
    since counts as lost. Each may die ten times.

    Raises: UserError where Ray is missing or does not start.
    """
    counts = [shard.counts for shard in shards]
    done = tuple(max(numbers) for numbers in zip(*(each.numbers for each in counts)))
    with connected(address, (task, _traffic(task, shards))) as (ray, temporary):
        folder = temporary / "shards" if folder is None else Path(folder).absolute()
        for index, shard in enumerate(shards):
            write_shard(shard_file(folder, index), shard)
        spread = {"scheduling_strategy": "SPREAD"} if address else {}
        variables = environment(None if address else task.workers)

        def remote(kind, restarts, gpus=0, **besides):
            return ray.remote(kind).options(
                num_cpus=0,
                num_gpus=gpus,
                max_restarts=restarts,
                max_task_retries=0,
                runtime_env={"env_vars": variables | besides},
                **spread,
            )

        warm = task.begun[-1] if task.workers > 1 else 0
        gate = remote(Gate, 0).remote(
            done, shards=len(shards), warm=warm, bound=staleness_bound, sent=sent
        )
        servers = [
            remote(ServerShard, RESTARTS, JAX_PLATFORMS="cpu").remote(
                index, str(shard_file(folder, index)), optimizer, task.workers, gate
            )
            for index in range(len(shards))
        ]
        shipped, paths = ray.put(task), paths_of(shards)
        gpus = gpus_of_a_worker(ray, task.workers)
        workers = [
            remote(GradientWorker, RESTARTS, gpus).remote(index, shipped, servers, paths, gate)
            for index in range(task.workers)
        ]
        yield Downpour(ray, servers, workers, gate, done)


def _traffic(task, shards):
    """About what is on its way at once: what every worker fetches and pushes."""
    return [shard[:2] for shard in shards] * (task.workers + 1)


def counts_for(task: Task, shards: int, saved: dict | None) -> tuple[list[Counts], Sent | None]:
    """The counts that shards begin with, and what was sent before.

    Args:
      saved: from `saved_counts`, None for a run that begins.

    Raises: UserError for counts of another number of shards or workers.
    """
    if saved is None:
        return [Counts(task.begun)] * shards, None
    counts = [counts_from_json(each) for each in saved["shards"]]
    workers = len(counts[0].numbers)
    if (len(counts), workers) != (shards, task.workers):
        raise UserError(
            f"the checkpoint is of {len(counts)} shards and {workers} workers, not of {shards} and "
            f"{task.workers}"
        )
    numbers, *rest = saved["sent"]
    return counts, Sent(tuple(numbers), *rest)


def saved_counts(counts: list[Counts], heard: Announced) -> dict:
    """What a checkpoint keeps of counts, as JSON data."""
    return {"shards": [counts_to_json(each) for each in counts], "sent": heard.sent}
