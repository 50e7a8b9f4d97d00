"""Checkpoints: asynchronous, atomic, checked leaf by leaf when they are read.

Orbax writes them; a state is kept as a flat dict of NumPy arrays by path (`params.conv1.kernel`),
so it can be restored on any number of devices, or in part. Beside it stands what the host carries
from step to step, and a hash of every array: Orbax itself restores flipped bytes silently.
"""

import contextlib
import errno
import functools
import json
import logging
import math
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax

from ..errors import NotFiniteError, UserError, first_line
from .flattening import flatten, hash_array, hash_json, is_broken, unflatten

# What keeps a file from being read or written; Orbax buries it in long messages.
READ_ERRORS = (errno.EMFILE, errno.ENFILE, errno.EACCES, errno.ENOMEM)
WRITE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS, errno.EIO)


class Checkpoints:
    """The checkpoints of one run, in `folder/STEP`: the last `keep`, and the best on validation.

    Args:
      folder: made when it is not there, unless `read_only`.
      keep: how many of the last ones to keep.
      read_only: to restore only.

    Use it as a context manager: leaving it waits for the save under way.

    >>> import tempfile
    >>> import numpy as np
    >>> with tempfile.TemporaryDirectory() as folder, Checkpoints(folder) as checkpoints:
    ...     checkpoints.save(3, {"x": np.ones(2)}, {"seconds": 1.5})
    ...     checkpoints.wait()
    ...     step, state, host = checkpoints.restore({"x": np.zeros(2)})
    >>> step, state["x"].tolist(), host["seconds"]
    (3, [1.0, 1.0], 1.5)
    """

    def __init__(self, folder, *, keep: int = 3, read_only: bool = False):
        import orbax.checkpoint as ocp

        self.folder = Path(folder).absolute()
        self._ocp = ocp
        _ignore_abandoned_futures()
        self._silence = contextlib.ExitStack()
        self._silence.enter_context(_silenced("absl"))
        self._scores = {step: self._read_score(step) for step in _steps_in(self.folder)}
        if not read_only:
            _writing(self.folder, self.folder.mkdir, parents=True, exist_ok=True)
        options = ocp.CheckpointManagerOptions(
            read_only=read_only,
            cleanup_tmp_directories=not read_only,
            create=False,
            preservation_policy=_LastAndBest(keep, self._scores),
            multiprocessing_options=_this_process_alone(ocp),
        )
        self._manager = _writing(self.folder, ocp.CheckpointManager, self.folder, options=options)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        try:
            _writing(self.folder, self._manager.close)
        except UserError:
            if kind is None:  # else the first failure is the one to hear of
                raise
        finally:
            self._silence.close()

    def save(self, step: int, state, host: dict, metrics: dict | None = None) -> None:
        """Starts to write a state; waits only for the save before it.

        Args:
          step: larger than that of every checkpoint there.
          state: a tree of host arrays (`parallel.gather`), not to be changed afterwards.
          host: JSON data to go with it.
          metrics: `validation_loss`, and `validation_accuracy`, where they are known.

        Raises: NotFiniteError for a state that is not finite; UserError when this save or the one
        before it cannot be written.
        """
        arrays = flatten(state)
        broken = [path for path, x in arrays.items() if is_broken(path, x)]
        if broken:
            raise NotFiniteError(f"not finite at step {step}, not saved: {', '.join(broken[:3])}")
        host = {**host, "validation": metrics}
        args = self._ocp.args.Composite(
            # Orbax refuses empty arrays.
            state=self._ocp.args.StandardSave({path: x for path, x in arrays.items() if x.size}),
            host=self._ocp.args.JsonSave(
                {
                    "data": host,
                    "hash": hash_json(host),
                    "arrays": {path: hash_array(x) for path, x in arrays.items()},
                }
            ),
        )
        self._scores[step] = None if metrics is None else score(metrics)
        _writing(self.folder, self._manager.save, step, args=args)

    def wait(self) -> None:
        """Waits until the save under way is on disk."""
        _writing(self.folder, self._manager.wait_until_finished)

    def steps(self) -> list[int]:
        """The steps of the checkpoints there, in order."""
        return sorted(self._manager.all_steps())

    def restore(
        self,
        template,
        which: str | int = "last",
        *,
        say: Callable[[str], None] = print,
        set_aside: bool = False,
        partial: bool = False,
    ) -> tuple[int, object, dict]:
        """The step, state and host data of a whole checkpoint.

        Args:
          template: a tree of arrays or `ShapeDtypeStruct`s of the state's structure.
          which: `last`, `best` on validation, or a step. Where the last is damaged, the whole one
            before it is taken, and that is said.
          set_aside: whether to move the damaged ones, once a whole one is found, to
            `damaged-checkpoints` beside the folder, so that a run that goes on can write its own.
          partial: whether the checkpoint may hold more than the template asks for.

        Raises: UserError when there is none, none is whole, a whole one is of another model, or
        reading fails for want of memory, open files or permission; then nothing is moved.
        """
        damaged = []
        for step in self._candidates(which):
            try:
                arrays, host = self._read(step)
            except Exception as error:  # whatever the damage does to Orbax
                reason = first_line(error)[:200]
                causes = _causes(error, READ_ERRORS)
                if causes or isinstance(error, MemoryError):
                    reason = causes[0] if causes else reason
                    raise UserError(f"checkpoint {step} cannot be read: {reason}") from error
                say(f"checkpoint {step} is damaged ({reason})")
                damaged.append(step)
                continue
            state = unflatten(template, arrays, f"checkpoint {step}", partial=partial)
            for step_aside in damaged if set_aside else []:
                self._set_aside(step_aside)
            return step, state, host
        raise UserError(f"no whole checkpoint is left in {self.folder}")

    def _candidates(self, which):
        steps = self.steps()
        if not steps:
            raise UserError(f"there is no checkpoint in {self.folder}")
        if which == "last":
            return steps[::-1]
        if which == "best":
            scores = {step: self._scores[step] for step in steps if self._scores.get(step)}
            if not scores:
                raise UserError(
                    f"no checkpoint in {self.folder} is known to be the best: nothing was "
                    "decided on a validation split; take the last, or train with --validation 0.1"
                )
            return [max(scores, key=scores.get)]
        if which not in steps:
            raise UserError(f"there is no checkpoint {which}; there are {steps}")
        return [which]

    def _read(self, step):
        args = self._ocp.args.Composite(
            state=self._ocp.args.StandardRestore(), host=self._ocp.args.JsonRestore()
        )
        restored = self._manager.restore(step, args=args)
        arrays, host = restored["state"], restored["host"]
        if hash_json(host["data"]) != host["hash"]:
            raise ValueError("what the host kept does not have the hash it was saved with")
        for path, expected in host["arrays"].items():
            if path in arrays and hash_array(arrays[path]) != expected:
                raise ValueError(f"{path} does not have the hash it was saved with")
        return arrays, host["data"]

    def _read_score(self, step):
        """The score of a checkpoint, None where it has none or is damaged."""
        try:
            host = json.loads((self.folder / str(step) / "host" / "metadata").read_text())
            return score(host["data"]["validation"])
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None

    def _set_aside(self, step):
        target = self.folder.parent / "damaged-checkpoints" / str(step)
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(exist_ok=True)
        (self.folder / str(step)).rename(target)
        self._manager.reload()


class _LastAndBest(NamedTuple):
    """Which checkpoints Orbax keeps: the last ones, and the best by the scores of steps."""

    keep: int
    scores: dict

    def should_preserve(self, checkpoints, *, context):
        known = [info.step for info in checkpoints if self.scores.get(info.step)]
        best = max(known, key=self.scores.get, default=None)
        first = len(checkpoints) - self.keep
        return [i >= first or info.step == best for i, info in enumerate(checkpoints)]


def _this_process_alone(ocp):
    """Has Orbax wait for no other process: one writes for all, and each may read by itself."""
    if not jax.distributed.is_initialized():
        return ocp.options.MultiprocessingOptions()
    index = jax.process_index()
    return ocp.options.MultiprocessingOptions(
        primary_host=index, active_processes={index}, barrier_sync_key_prefix=f"process{index}"
    )


def _steps_in(folder: Path) -> list[int]:
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(name) for name in names if name.isdecimal())


@contextlib.contextmanager
def _silenced(name: str):
    """Nothing from a logger meanwhile: Orbax logs what it also raises, and we say it in a line."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


@functools.cache
def _ignore_abandoned_futures() -> None:
    """From here on, drops two complaints that Orbax leaves behind some time after one of its
    parallel reads or writes fails: of results that nobody takes, on an event loop that is closed.
    """
    hook = sys.unraisablehook

    def unless_closed_loop(unraisable):
        of_tensorstore = unraisable.object is None
        if not (of_tensorstore and "Event loop is closed" in str(unraisable.exc_value)):
            hook(unraisable)

    def is_anothers(record):
        error = record.exc_info[1] if record.exc_info else None
        return "tensorstore" not in str(error) and "OCDBT" not in str(error)

    sys.unraisablehook = unless_closed_loop
    logging.getLogger("asyncio").addFilter(is_anothers)


def score(metrics: dict) -> tuple[float, float]:
    """What makes a checkpoint the best: accuracy on validation, where that is measured, then the
    smaller loss; one that is no number is larger than all."""
    loss = metrics["validation_loss"]
    return metrics.get("validation_accuracy", 0.0), -math.inf if math.isnan(loss) else -loss


def _causes(error, numbers) -> list[str]:
    """Which of some system errors an error speaks of."""
    return [os.strerror(number) for number in numbers if os.strerror(number) in str(error)]


def _writing(folder, function, *args, **kwargs):
    """Calls a function that writes; its failure in one line."""
    try:
        return function(*args, **kwargs)
    except (OSError, ValueError) as error:
        causes = _causes(error, WRITE_ERRORS)
        reason = causes[0] if causes else first_line(error)[:300]
        raise UserError(f"checkpoints cannot be written to {folder}: {reason}") from error
