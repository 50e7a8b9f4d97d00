"""Where workers announce themselves: who is how far, what was sent, who may go on."""

from typing import NamedTuple

import numpy as np

from .parameter_server import slowest

GO, WAIT, STOP = "go", "wait", "stop"


class Announced(NamedTuple):
    """What a gate has heard.

    Attributes:
      done: of each worker the pushes that it has made, the warm start's among them.
      sent: of each shard the pushes sent to it, repeated ones too.
      metrics: the sums of the metrics of all batches since the last question, on the host.
      processes: of each actor by its name, as `worker 0`, its process id now.
      births: how often each has begun.
    """

    done: tuple[int, ...]
    sent: tuple[int, ...]
    metrics: dict
    processes: dict[str, int]
    births: dict[str, int]


class Gate:
    """Counts what workers announce before they do it, and lets nobody run away.

    Args:
      done: of each worker the pushes that were made before.
      sent: of each shard the pushes that were sent to it before.
      bound: how many pushes a worker may be ahead of the slowest and still begin another; None for
        any number (Ho et al. 2013, "More effective distributed ML via a stale synchronous parallel
        parameter server", section 2).

    A worker that waits asks again; so it need not be told when the slowest moves, dies and comes
    back, or has no more to do.

    >>> gate = Gate([0, 0], [0], bound=1)
    >>> gate.enter(0, 1), gate.enter(0, 2), gate.enter(1, 1), gate.enter(0, 2)
    ('go', 'wait', 'go', 'go')
    """

    def __init__(self, done, sent, bound: int | None = None):
        self._done, self._sent, self._bound = list(done), list(sent), bound
        self._metrics, self._processes, self._births = {}, {}, {}
        self._paused = False

    def enter(self, worker: int, number: int) -> str:
        """Whether a worker that has made so many pushes may begin another: GO, WAIT or STOP."""
        self._done[worker] = number
        if self._paused:
            return STOP
        least = slowest(tuple(self._done), worker, number)
        return GO if self._bound is None or number - least <= self._bound else WAIT

    def announce(self, shards: list[int], metrics: dict | None = None) -> None:
        """Notes that a push is being sent to these shards, with the metrics of its batches."""
        for shard in shards:
            self._sent[shard] += 1
        for name, pair in (metrics or {}).items():
            old = self._metrics.get(name, (0, 0))
            self._metrics[name] = tuple(np.add(a, b) for a, b in zip(old, pair))

    def finish(self, worker: int, number: int) -> None:
        """Notes how far a worker is that stops."""
        self._done[worker] = number

    def arrive(self, name: str, process: int) -> None:
        """Notes that an actor has begun, for the first time or again."""
        self._processes[name] = process
        self._births[name] = self._births.get(name, 0) + 1

    def pause(self, paused: bool = True) -> None:
        """Has every worker stop after its push under way; or lets them in again."""
        self._paused = paused

    def read(self) -> Announced:
        """What was heard; the sums of the metrics begin anew."""
        metrics, self._metrics = self._metrics, {}
        done, sent = tuple(self._done), tuple(self._sent)
        return Announced(done, sent, metrics, dict(self._processes), dict(self._births))
