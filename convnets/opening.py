"""How a run's workdir is opened: a new one, or one to go on with."""

import contextlib
from functools import partial

import jax

from . import parallel
from .errors import UserError
from .plans import Plan
from .training import journal
from .training.checkpoints import Checkpoints
from .training.recording import Record
from .training.sameness import require_same_run, require_same_settings


@contextlib.contextmanager
def opened(plan, identity, saved, state, progress):
    """The state to go on from, or None for a fresh one, and the run's record; on leaving, its
    checkpoints are on disk.

    Of several processes, 0 alone reads and writes. The others have to be given its state, and their
    record is the same in memory.

    Raises: UserError, on every process, where the workdir holds another run, or none to resume; and
    on a process that was given other settings than process 0.
    """
    workdir, patience = plan.options.workdir, plan.options.early_stopping
    config = plan.config(identity)
    first, index = parallel.first_decides(lambda: config, "the settings"), jax.process_index()
    same = partial(require_same_settings, first, config, index)
    parallel.all_agree(same, "whether the settings are the same")
    if workdir is None:
        yield state, Record(patience=patience)
        return
    checkpoints = None
    with contextlib.ExitStack() as stack:

        def open_workdir():
            nonlocal state, checkpoints
            if saved is None:
                journal.open_run(workdir, config)
            else:
                require_same_run(saved, config)
            stack.enter_context(journal.locked(workdir))
            checkpoints = Checkpoints(f"{workdir}/checkpoints", keep=plan.options.keep)
            stack.enter_context(checkpoints)
            host, history = None, []
            if saved is not None:
                state, host = _go_on(plan, saved, checkpoints, progress)
                history = journal.rewind(workdir, host["step"] if host else 0)
                journal.write_config(workdir, config)
            return host, history

        host, history = parallel.first_decides(open_workdir, "the opening of the workdir")
        mine = workdir if parallel.is_first() else None
        yield state, Record(mine, checkpoints, host, history, patience)


def _go_on(plan, saved, checkpoints, progress):
    """State and host data of the last whole checkpoint, None and None where there was none yet."""
    say = print if progress else lambda text: None
    if not checkpoints.steps():
        if plan.origin is not None:
            raise UserError(
                f"{checkpoints.folder} holds no checkpoint, and the run began from the "
                f"{plan.origin} that it was given: start it anew from the same, in another workdir"
            )
        lines = journal.read_metrics(checkpoints.folder.parent)
        every = saved["checkpoint_every"] or plan.evaluate_every
        # Beyond a second one, which waits for the first, and whose step has its line before it.
        if lines and lines[-1]["step"] > 2 * every:
            raise UserError(
                f"the run came to step {lines[-1]['step']}, but {checkpoints.folder} holds no "
                "checkpoint: put them back, or start a new run in another workdir"
            )
        say("there is no checkpoint yet; the run starts from its beginning")
        return None, None
    template = jax.eval_shape(plan.create_state)
    step, state, host = checkpoints.restore(template, say=say, set_aside=True)
    say(f"going on from the checkpoint of step {step} in {checkpoints.folder}")
    return state, host


def where_to_go_on(plan: Plan, record: Record) -> str:
    """What to add to the message that another process died: how far the run is, what to do."""
    number = record.meter.number
    done = f"; {number} is the last step that all have made" if number is not None else ""
    if plan.options.workdir is None:
        return f"{done}; nothing was written, for there is no workdir: start all again"
    if record.saved is None:
        return f"{done}; start all again with --resume, from the beginning for want of a checkpoint"
    return f"{done}; start all again with --resume, to go on from the last checkpoint"
