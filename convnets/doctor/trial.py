"""A short training with the options of a run, for the checks to look at what became of it."""

import contextlib
import dataclasses
import itertools
import math
import time
from typing import NamedTuple

import numpy as np

from .. import data, parallel
from ..errors import UserError, first_line
from ..planning import EPOCHS, make_plan
from ..plans import Plan
from ..training import evaluate, loop
from ..training.options import TrainingOptions, create_options
from ..training.server_options import SERVER, uses_server
from ..training.state import TrainState

STEPS = 200
EXAMPLES = 1000  # of the test split, at most
WARM = 5  # first steps whose time does not count
# What a run has and a trial has no use for.
OF_A_RUN = ("epochs", "steps", "workdir", "resume", "evaluate_every", "early_stopping")
OF_A_RUN += ("checkpoint_every", "keep", "log_every", "steps_per_call", "average_every")
OF_A_RUN += ("recompute_statistics",)


class Trial(NamedTuple):
    """A short training.

    Attributes:
      plan: of it.
      before, after: the state at its beginning and its end, on the host.
      losses: float64 `[N]`, of each step's batch, before the step; the last may not be finite.
      accuracy: share of `examples` test images that are right in the end, in [0, 1]; NaN where
        the network could not be evaluated.
      examples: test images evaluated.
      images_per_second: without the first steps; NaN of a trial too short to tell.
      data_wait: share of that time spent waiting for the next batch.
      first_step_seconds: compilation included.
      run_steps: how many steps the run itself would have.
      failed: what the evaluation said where it failed, else empty.
    """

    plan: Plan
    before: TrainState
    after: TrainState
    losses: np.ndarray
    accuracy: float
    examples: int
    images_per_second: float
    data_wait: float
    first_step_seconds: float
    run_steps: int
    failed: str = ""

    @property
    def last_loss(self) -> float:
        """The mean over the last tenth of the steps."""
        return float(np.mean(self.losses[-max(1, len(self.losses) // 10) :]))


def run_trial(
    model, dataset, *, trial_steps: int = STEPS, seconds: float = 120.0, **options
) -> Trial:
    """Trains for a few steps as `fit` would with the same options.

    A named schedule is left out, so that a short training has the rate which the long one has most
    of the time; its warm-up takes a quarter of the steps at most.

    Args:
      model, dataset, options: as in `fit`.
      trial_steps: at most.
      seconds: after which no further step is begun.

    Raises: UserError for whatever `fit` refuses.
    """
    if trial_steps < 1:
        raise UserError(f"a trial has at least 1 step, not {trial_steps}")
    parallel.keep_memory()
    parallel.cache_compilations()
    plan = make_plan(model, dataset, short_options(trial_steps, **options))
    state = plan.create_state()
    before = parallel.gather(state)
    losses, times, waited = [], [time.monotonic()], 0.0
    with contextlib.closing(plan.batches(0)) as batches:
        batches = loop.Waiting(batches)
        for number, last, metrics in loop.advance(  # noqa: B007
            plan.step, state, batches, stop=plan.stop
        ):
            total, count = metrics["loss"]
            losses.append(float(total) / int(count))
            times.append(time.monotonic())
            if number == WARM:
                waited = batches.seconds
            if not math.isfinite(losses[-1]) or times[-1] - times[0] > seconds:
                break
    after = parallel.gather(last)
    accuracy, examples, failed = _evaluate(plan, after)
    timed, size = times[-1] - times[min(WARM, len(losses))], plan.options.batch_size
    return Trial(
        plan=plan,
        before=before,
        after=after,
        losses=np.array(losses),
        accuracy=accuracy,
        examples=examples,
        images_per_second=(len(losses) - WARM) * size / timed if len(losses) > WARM else math.nan,
        data_wait=(batches.seconds - waited) / timed if len(losses) > WARM else math.nan,
        first_step_seconds=times[1] - times[0],
        run_steps=_run_steps(create_options(**options), len(dataset.train), size),
        failed=failed,
    )


def short_options(trial_steps: int, **given) -> TrainingOptions:
    """The options of a trial: those of a run without what is for long ones.

    >>> short_options(20, epochs=9, schedule="cosine", warmup=50, optimizer="sgd").warmup
    5
    """
    options = create_options(**given)
    usual = TrainingOptions()
    left = {name: getattr(usual, name) for name in OF_A_RUN}
    if uses_server(options):
        left |= {name: getattr(usual, name) for name in ("parallel", "workers", *SERVER)}
    if isinstance(options.schedule, str):
        left |= {"schedule": "constant", "warmup": min(options.warmup, trial_steps // 4)}
    return dataclasses.replace(options, **left | {"steps": trial_steps, "steps_per_call": 1})


def _evaluate(plan, state):
    """Accuracy on the beginning of the test split, how many examples, and what went wrong."""
    source, size = plan.dataset.test, plan.options.batch_size
    batches = itertools.islice(data.evaluation_batches(source, size), max(EXAMPLES // size, 1))
    try:
        measured = evaluate(plan.eval_step, state, batches)
    except Exception as error:  # of the user's model, whatever it is: the trial itself has run
        return math.nan, 0, f"{type(error).__name__}: {first_line(error)}"
    return measured["accuracy"], measured["examples"], ""


def _run_steps(options, examples, batch_size):
    """The steps of the whole run."""
    if options.steps is not None:
        return options.steps
    epochs = EPOCHS if options.epochs is None else options.epochs
    return math.ceil(epochs * examples / batch_size)
