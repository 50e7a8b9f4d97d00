"""Checkpoints: asynchronous, atomic, checked leaf by leaf when they are read.

Orbax writes them; a state is kept as a flat dict of NumPy arrays by path (`params.conv1.kernel`),
so it can be restored on any number of devices, or in part. Beside it stands what the host carries
from step to step, and a hash of every array: Orbax itself restores flipped bytes silently.
"""

import contextlib
import errno
import functools
import hashlib
import logging
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from ..errors import UserError

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
    >>> with tempfile.TemporaryDirectory() as folder, Checkpoints(folder) as checkpoints:
    ...     checkpoints.save(3, {"x": np.ones(2)}, {"seconds": 1.5})
    ...     checkpoints.wait()
    ...     step, state, host = checkpoints.restore({"x": np.zeros(2)})
    >>> step, state["x"].tolist(), host["seconds"]
    (3, [1.0, 1.0], 1.5)
    """

    def __init__(self, folder, *, keep: int = 3, read_only: bool = False):
        import orbax.checkpoint as ocp
        from orbax.checkpoint import checkpoint_managers as policies

        self.folder = Path(folder).absolute()
        self._ocp = ocp
        _ignore_abandoned_futures()
        self._silence = contextlib.ExitStack()
        self._silence.enter_context(_silenced("absl"))
        best = policies.BestN(get_metric_fn=score, n=1, keep_checkpoints_without_metrics=False)
        options = ocp.CheckpointManagerOptions(
            read_only=read_only,
            cleanup_tmp_directories=not read_only,
            best_fn=score,
            preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(keep), best]),
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
          metrics: `validation_accuracy` and `validation_loss`, where they are known.

        Raises: UserError for a state that is not finite, and when this save or the one before it
        cannot be written.
        """
        arrays = flatten(state)
        broken = [path for path, x in arrays.items() if _is_broken(path, x)]
        if broken:
            raise UserError(f"not finite at step {step}, not saved: {', '.join(broken[:3])}")
        hashes = {path: _hash(x) for path, x in arrays.items()}
        arrays = {path: x for path, x in arrays.items() if x.size}  # Orbax refuses empty ones
        args = self._ocp.args.Composite(
            state=self._ocp.args.StandardSave(arrays),
            host=self._ocp.args.JsonSave({**host, "hashes": hashes}),
        )
        _writing(self.folder, self._manager.save, step, args=args, metrics=metrics)

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
                reason = (str(error) or type(error).__name__).splitlines()[0][:200]
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
            if self._manager.best_step() is None:
                raise UserError(
                    f"no checkpoint in {self.folder} is known to be the best: the run had no "
                    "validation split; take the last, or train with --validation 0.1"
                )
            return [self._manager.best_step()]
        if which not in steps:
            raise UserError(f"there is no checkpoint {which}; there are {steps}")
        return [which]

    def _read(self, step):
        args = self._ocp.args.Composite(
            state=self._ocp.args.StandardRestore(), host=self._ocp.args.JsonRestore()
        )
        restored = self._manager.restore(step, args=args)
        arrays, host = restored["state"], restored["host"]
        hashes = host.pop("hashes")
        for path, expected in hashes.items():
            if path in arrays and _hash(arrays[path]) != expected:
                raise ValueError(f"{path} does not have the hash it was saved with")
        return arrays, host

    def _set_aside(self, step):
        target = self.folder.parent / "damaged-checkpoints" / str(step)
        target.parent.mkdir(exist_ok=True)
        shutil.rmtree(target, ignore_errors=True)
        (self.folder / str(step)).rename(target)
        self._manager.reload()


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


def flatten(state) -> dict[str, np.ndarray]:
    """The arrays of a tree by their paths, joined with dots."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    return {_path(path): np.asarray(leaf) for path, leaf in leaves}


def unflatten(template, arrays: dict[str, np.ndarray], what: str, *, partial: bool = False):
    """The tree of the template's structure with the given arrays; `what` names them in errors.

    Raises: UserError where paths, shapes or types are others.
    """
    leaves, treedef = jax.tree_util.tree_flatten_with_path(template)
    wanted = {_path(path): leaf for path, leaf in leaves}
    arrays = {
        **{path: np.zeros(x.shape, x.dtype) for path, x in wanted.items() if x.size == 0},
        **arrays,
    }
    missing = sorted(wanted.keys() - arrays.keys())
    unused = [] if partial else sorted(arrays.keys() - wanted.keys())
    if missing or unused:
        raise UserError(
            f"{what} is of another model, optimizer or ema: "
            f"missing {missing[:3] or 'nothing'}, not used {unused[:3] or 'nothing'}"
        )
    for path, leaf in wanted.items():
        found = arrays[path]
        if found.shape != leaf.shape or found.dtype != leaf.dtype:
            raise UserError(
                f"{what} is of another model: {path} should be {leaf.dtype}"
                f"{list(leaf.shape)}, it is {found.dtype}{list(found.shape)}"
            )
    return jax.tree.unflatten(treedef, [arrays[path] for path in wanted])


def _path(path) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _is_broken(path: str, array: np.ndarray) -> bool:
    """Whether there is a NaN; or, but for what an optimizer remembers, an infinite number."""
    if path.startswith("opt_state."):  # a plateau's best value is infinite at first
        return bool(np.any(np.isnan(array)))
    return not np.all(np.isfinite(array))


def _hash(array: np.ndarray) -> str:
    array = np.ascontiguousarray(array)
    head = f"{array.dtype}{array.shape}".encode()
    return hashlib.blake2b(head + array.tobytes(), digest_size=16).hexdigest()


def score(metrics: dict) -> tuple[float, float]:
    """What makes a checkpoint the best: accuracy on validation, then the smaller loss."""
    return metrics["validation_accuracy"], -metrics["validation_loss"]


def _causes(error, numbers) -> list[str]:
    """Which of some system errors an error speaks of."""
    return [os.strerror(number) for number in numbers if os.strerror(number) in str(error)]


def _writing(folder, function, *args, **kwargs):
    """Calls a function that writes; its failure in one line."""
    try:
        return function(*args, **kwargs)
    except (OSError, ValueError) as error:
        causes = _causes(error, WRITE_ERRORS)
        reason = causes[0] if causes else (str(error) or type(error).__name__).splitlines()[0][:300]
        raise UserError(f"checkpoints cannot be written to {folder}: {reason}") from error
