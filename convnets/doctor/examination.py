"""All checks of a network, its data and its options, one after the other."""

import sys
from collections.abc import Sequence
from functools import partial

from ..errors import UserError, first_line, unknown
from ..requirements import require_kinds
from ..runs import with_precision
from ..training.options import create_options
from ..training.state import TrainState
from .batch_norm import check_batch_norm
from .collapse import check_collapse
from .data import check_data
from .finding import NOT_CHECKED, Finding
from .gradients import check_gradients
from .overfit import check_overfit
from .rate import check_rate
from .reproduce import check_reproduce
from .size import check_size
from .speed import check_speed
from .trial import STEPS, Trial, run_trial

# In the order of cause and effect: the first that is wrong is the one to mend first.
CHECKS = ("data", "gradients", "batch-norm", "size", "rate", "collapse", "overfit", "reproduce")
CHECKS += ("speed",)


def examine(
    model,
    dataset,
    *,
    state: TrainState | None = None,
    checks: Sequence[str] = CHECKS,
    trial_steps: int = STEPS,
    progress: bool = False,
    **options,
) -> list[Finding]:
    """Looks for what keeps a network from learning.

    A short training with the options of the run is made first; several checks look at what became
    of it. Nothing that is given changes.

    Args:
      model, dataset: as in `fit`.
      state: of a training that is done, as `result.state` or `load_run(workdir).state`: batch norm
        and collapse are then looked at there. Its normalization holds.
      checks: which to make, of `CHECKS`; a name, or several.
      trial_steps: of the short training.
      progress: whether to say each check as it begins, on standard error.
      options: the fields of `TrainingOptions` that the run has, as for `fit`.

    Returns: the findings in the order of `CHECKS`, for `format_report` to show. A check that the
    model's own code breaks is `not checked`, and says by what.

    Raises: UserError for an unknown check, and for all that `fit` refuses.

    Reference: Fergus 2018, "Deep learning lecture 1: introduction and convnets", "Some practical
    debugging tips".
    """
    checks = (checks,) if isinstance(checks, str) else checks
    for name in checks:
        if name not in CHECKS:
            raise unknown("check", name, CHECKS)
    require_kinds(model, dataset)
    given = create_options(**options)
    model = with_precision(model, given.precision)
    say = partial(print, file=sys.stderr) if progress else lambda text: None
    say(f"training for {trial_steps} steps")
    trial = run_trial(model, dataset, trial_steps=trial_steps, **options)
    table = _checks(model, dataset, state, trial, options)
    findings = []
    for name in CHECKS:
        if name in checks:
            say(f"checking {name}")
            findings += _guarded(name, table[name])
    return findings


def _checks(model, dataset, state, trial: Trial, options: dict) -> dict:
    """What each check is called with."""
    plan = trial.plan
    seed = plan.options.seed
    normalization = None if state is None else state.normalization
    about = {"normalization": normalization or plan.normalization}
    looked_at = trial.after if state is None else state
    moved = {"before": trial.before} if state is None else {}
    return {
        "data": lambda: check_data(dataset, trial=trial, **about),
        "gradients": lambda: check_gradients(
            model, dataset, trial.before.variables(), seed=seed, **about
        ),
        "batch-norm": lambda: check_batch_norm(
            model,
            dataset,
            looked_at,
            steps=trial.run_steps,
            batch_size=plan.options.batch_size,
            **moved,
            **about,
        ),
        "size": lambda: check_size(model, dataset, batch_size=plan.options.batch_size),
        "rate": lambda: check_rate(model, dataset, trial, **options),
        "collapse": lambda: check_collapse(model, dataset, looked_at, seed=seed, **about),
        "overfit": lambda: check_overfit(
            model, dataset, loss=plan.options.loss, seed=seed, **about
        ),
        "reproduce": lambda: check_reproduce(model, dataset, **options),
        "speed": lambda: check_speed(model, trial),
    }


def _guarded(name, check) -> list[Finding]:
    """The findings of a check; where the model's code breaks it, one that says so."""
    try:
        found = check()
    except Exception as error:
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        text = f"{kind}{first_line(error)}"
        return [Finding(name, "", NOT_CHECKED, None, "", text[:300])]
    return [found] if isinstance(found, Finding) else found
