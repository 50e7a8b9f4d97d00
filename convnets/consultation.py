"""The command that looks for what keeps a network from learning."""

import dataclasses
import sys

from .errors import UserError
from .parsing import RunOptions, load_named, read_checkpoint
from .training.options import NOT_SAVED, TrainingOptions, read_options, require_ranges


def doctor(
    run: RunOptions,
    training: TrainingOptions,
    checkpoint: str = "last",
    checks: tuple[str, ...] = (),
) -> int:
    """Look for what keeps a network from learning: a verdict, a number and what to do, each.

    With --workdir the run in that folder is looked at, by its own model, data and options; else
    what --model, --data and the other options say. A short training is made anew; batch norm and
    dead units are looked at in the run's checkpoint, where there is one. Ends with exit code 1
    where something is wrong.

    Args:
      checkpoint: Of the run in workdir: last, best (on validation), or a step.
      checks: Of data, gradients, batch-norm, size, rate, collapse, overfit, reproduce and speed,
        those to make. None: all.
    """
    from . import doctor as examining

    require_ranges(training)
    if training.workdir is None:
        model, dataset = load_named(run, training.seed)
        if run.weights is not None:
            raise UserError("the doctor looks at a network from its first step: leave out weights")
        state, options = None, training
    else:
        _require_alone(run, training)
        model, dataset, state, options = _open(training.workdir, checkpoint)
    given = dataclasses.asdict(options)
    for name in NOT_SAVED:
        given.pop(name)
    findings = examining.examine(
        model, dataset, state=state, checks=checks or examining.CHECKS, progress=True, **given
    )
    print(examining.format_report(findings))
    return 0 if examining.first_wrong(findings) is None else 1


def _open(workdir, checkpoint):
    """Model, data, state and options of a run."""
    from . import runs

    run = runs.load_run(workdir, read_checkpoint(checkpoint))
    dataset = runs.load_run_data(run)
    print(f"{run!r}", file=sys.stderr)
    return run.model, dataset, run.state, read_options(run.config)


def _require_alone(run, training):
    """Refuses options beside the workdir, whose run has its own."""
    usual = dataclasses.replace(TrainingOptions(), workdir=training.workdir)
    for given, default in ((run, RunOptions()), (training, usual)):
        for field in dataclasses.fields(given):
            if getattr(given, field.name) != getattr(default, field.name):
                raise UserError(
                    f"the run in {training.workdir} has its own {field.name}: leave it out"
                )
