"""Where workers announce themselves: who is how far, what was sent, who may go on."""

from typing import NamedTuple

import numpy as np

GO, WAIT, STOP = "go", "wait", "stop"


class Sent(NamedTuple):
    """What workers have announced since the beginning of a run.

    Attributes:
      numbers: of each worker the number of its last push.
      pushes: how many there were, each number of each worker once.
      repeated: messages to a shard with a push that was announced before.
    """

    numbers: tuple[int, ...]
    pushes: int = 0
    repeated: int = 0


class Announced(NamedTuple):
    """What a gate has heard.

    Attributes:
      done: of each worker the pushes that it has made, the warm start's among them.
      sent: what was announced.
      metrics: the sums of the metrics of all batches since the last question, on the host.
      processes: of each actor by its name, as `worker 0`, its process id now.
      births: how often each has begun.
      entered: the workers that were ever let in; the others still start, or wait.
    """

    done: tuple[int, ...]
    sent: Sent
    metrics: dict
    processes: dict[str, int]
    births: dict[str, int]
    entered: frozenset[int] = frozenset()


class Gate:
    """Counts what workers announce before they do it, and lets nobody run away.

    Args:
      done: of each worker the pushes that were made before.
      shards: how many there are.
      warm: pushes that the first worker makes before the others begin.
      bound: how many pushes a worker may be ahead of the slowest and still begin another; None for
        any number (Ho et al. 2013, "More effective distributed ML via a stale synchronous parallel
        parameter server", section 2).
      sent: what was announced before; None for nothing.

    A worker that waits asks again; so it need not be told when the slowest moves, dies and comes
    back, or has no more to do.

    >>> gate = Gate([0, 0], shards=1, bound=1)
    >>> gate.enter(0, 1), gate.enter(0, 2), gate.enter(1, 1), gate.enter(0, 2)
    ('go', 'wait', 'go', 'go')
    """

    def __init__(
        self,
        done,
        *,
        shards: int,
        warm: int = 0,
        bound: int | None = None,
        sent: Sent | None = None,
    ):
        self._done, self._sent = list(done), sent or Sent(tuple(done))
        self._shards, self._warm, self._bound = shards, warm, bound
        self._metrics, self._processes, self._births = {}, {}, {}
        self._paused, self._entered = False, frozenset()

    def enter(self, worker: int, number: int) -> str:
        """Whether a worker that has made so many pushes may begin another: GO, WAIT or STOP."""
        self._done[worker] = number
        if self._paused:
            return STOP
        if worker and self._done[0] < self._warm:
            return WAIT
        if self._bound is not None and number - min(self._done) > self._bound:
            return WAIT
        self._entered |= {worker}
        return GO

    def announce(self, worker: int, number: int, metrics: dict) -> None:
        """Notes that a worker sends every shard its push of that number, and the metrics of its
        batches."""
        numbers, pushes, repeated = self._sent
        if number <= numbers[worker]:  # the worker has died between this and the sending
            self._sent = Sent(numbers, pushes, repeated + self._shards)
            return
        numbers = (*numbers[:worker], number, *numbers[worker + 1 :])
        self._sent = Sent(numbers, pushes + 1, repeated)
        for name, pair in metrics.items():
            old = self._metrics.get(name, (0, 0))
            self._metrics[name] = tuple(np.add(a, b) for a, b in zip(old, pair))

    def repeat(self) -> None:
        """Notes that a push is sent once more to a shard that did not answer."""
        self._sent = self._sent._replace(repeated=self._sent.repeated + 1)

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
        counted = dict(self._processes), dict(self._births)
        return Announced(tuple(self._done), self._sent, metrics, *counted, self._entered)
