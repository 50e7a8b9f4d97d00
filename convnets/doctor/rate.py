"""Is the learning rate one at which the network learns?"""

import numpy as np

from ..errors import UserError
from ..rates import OF_A_RUN, find_learning_rate
from .finding import NOT_CHECKED, OK, WARNING, WRONG, Finding

STEPS = 100
SMALL, TINY = 30, 100  # times below the suggestion
FALLS = 0.1  # of its loss, what a network that learns loses at least


def check_rate(model, dataset, trial, *, trial_steps: int = STEPS, **options) -> Finding:
    """Compares the rate of a run with a range test, and with what became of a trial at that rate.

    Args:
      model, dataset, options: as in `fit`.
      trial: from `run_trial` with the same options.
      trial_steps: of the range test.

    Reference: Smith 2017, "Cyclical learning rates for training neural networks", section 3.3.
    """
    finite = bool(np.isfinite(trial.losses).all())
    learned = finite and _learned(trial)
    rate = trial.plan.options.learning_rate
    if rate is None:
        found = "an optimizer of your own has its rate; the loss "
        found += f"goes from {trial.losses[0]:.3g} to {trial.last_loss:.3g}"
        return Finding("rate", "", OK if learned else WARNING, None, "", found, "Try other rates.")
    taken = {
        name: value for name, value in options.items() if name not in ("steps", *OF_A_RUN.split())
    }
    try:
        search = find_learning_rate(model, dataset, steps=trial_steps, **taken)
    except UserError as error:
        return Finding("rate", "", NOT_CHECKED, None, "", str(error))
    text = (
        f"in {len(trial.losses)} steps the loss goes from {trial.losses[0]:.3g} to "
        f"{trial.last_loss:.3g}; {search.describe()}"
    )
    if search.suggestion is None:
        advice = "No rate helps: look for what else is wrong."
        return Finding("rate", "", OK if learned else WARNING, rate, "", text, advice)
    ratio = rate / search.suggestion
    verdict, advice = _judge(ratio, finite, learned, _is_behind(trial, search))
    return Finding("rate", "", verdict, ratio, "times the suggestion", text, advice)


def _judge(ratio, finite, learned, behind):
    """The verdict by the rate over the suggestion, a tenth of the best of the range test."""
    if not finite or (not learned and ratio > 10):
        return WRONG, "The rate is too large: take the suggested one."
    if ratio < 1 / TINY and behind:
        return WRONG, "The rate is too small: take the suggested one."
    if ratio < 1 / SMALL and behind:
        return WARNING, "The rate is small: take the suggested one."
    if not learned:
        return WARNING, "The rate is not to blame, yet nothing is learned: look at what else is."
    return OK, ""


def _learned(trial) -> bool:
    """Whether the loss has fallen, and below that of guessing by how frequent each class is."""
    labels = trial.plan.dataset.train.labels
    start = trial.losses[0]
    if labels is not None and trial.plan.options.loss == "cross_entropy":
        labels = labels[labels >= 0]
        shares = np.bincount(labels) / max(len(labels), 1)
        shares = shares[shares > 0]
        start = min(start, float(-(shares * np.log(shares)).sum()))
    return trial.last_loss < (1 - FALLS) * start


def _is_behind(trial, search) -> bool:
    """Whether the trial's loss fell by less than half of what that of the range test did."""
    return trial.losses[0] - trial.last_loss < 0.5 * (search.smoothed[0] - search.smoothed.min())
