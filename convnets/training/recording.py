"""What a run keeps beside its state: lines, the sums between them, the best so far, the time."""

import time

from . import journal
from .checkpoints import Checkpoints, score
from .reporting import Meter
from .state import TrainState


class Record:
    """The record of a run, in memory, and in its workdir where it has one.

    Args:
      workdir: where lines and checkpoints are written, or None.
      checkpoints: of the workdir, or None.
      host: what the checkpoint that the run goes on from says beside its state.
      history: the lines that were written up to there.
      patience: evaluations in a row without a new best on validation after which to end.

    Attributes:
      history: every line so far.
      meter: the sums of the training metrics since the last line about them.
      saved: the step of the last checkpoint, also where another process writes it, or None.
      server: what a parameter server has counted, as JSON data; None without one.
    """

    def __init__(
        self,
        workdir: str | None = None,
        checkpoints: Checkpoints | None = None,
        host: dict | None = None,
        history: list[dict] = (),
        patience: int | None = None,
    ):
        begun = {
            "step": None,
            "window": {},
            "best": None,
            "stale": 0,
            "seconds": 0.0,
            "server": None,
        }
        host = begun | (host or {})
        self.workdir = workdir
        self.checkpoints = checkpoints
        self.history = list(history)
        self.meter = Meter(host["window"])
        self.saved = host["step"]
        self.server = host["server"]
        self._patience = patience
        self._stale = host["stale"]
        self._best = host["best"]
        self._begin = time.monotonic() - host["seconds"]

    @property
    def seconds(self) -> float:
        """Since the run began, less the time between a checkpoint and going on from it."""
        return time.monotonic() - self._begin

    def write(self, number: int, epoch: float, line: dict) -> dict:
        """Adds a line about a step, to the history and to `metrics.jsonl`."""
        line = {"step": number, "epoch": epoch, **line, "seconds": self.seconds}
        self.history.append(line)
        if self.workdir is not None:
            journal.append(self.workdir, line)
        return line

    def note(self, **facts) -> None:
        """Adds to `config.json` what is known of a run once it is under way."""
        if self.workdir is not None:
            journal.write_config(self.workdir, journal.read_config(self.workdir) | facts)

    def is_best(self, line: dict) -> bool:
        """Whether an evaluation is the best on validation so far; remembers it if so, and counts
        it if not."""
        validation = _validation(line)
        if validation is None:
            return False
        if self._best and score(validation) <= score(self._best):
            self._stale += 1
            return False
        self._best, self._stale = validation, 0
        return True

    @property
    def stopped(self) -> str | None:
        """Why the run is to end early, None where it is not."""
        if self._patience is None or self._stale < self._patience:
            return None
        return f"{self._stale} evaluation{'s' * (self._stale > 1)} without a new best on validation"

    def save(self, number: int, state: TrainState) -> None:
        """Starts to write a checkpoint of a host state, unless its step is saved already."""
        before, self.saved = self.saved, number
        if self.checkpoints is None or before == number:
            return
        host = {
            "step": number,
            "window": self.meter.totals(),
            "best": self._best,
            "stale": self._stale,
            "seconds": self.seconds,
            "server": self.server,
        }
        last = self.history[-1] if self.history else {}
        self.checkpoints.save(number, state, host, _validation(last, number))


def _validation(line, number=None):
    """What a line says of validation at a step; None where it says nothing."""
    if "validation_loss" not in line or (number is not None and line["step"] != number):
        return None
    return {name: line[name] for name in ("validation_accuracy", "validation_loss") if name in line}
