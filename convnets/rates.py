"""Finding a learning rate: a short run at ever larger ones."""

import io
import math
import os
from typing import NamedTuple

import numpy as np

from . import parallel
from .errors import UserError
from .planning import make_plan, name_origin
from .training import loop
from .training.options import create_options
from .training.state import TrainState

SMOOTHING = 0.9  # share of the average so far in the next
DIVERGED = 4  # times the lowest smoothed loss
STEPS = 100
# Options of a run that a search has no use for.
OF_A_RUN = "epochs learning_rate schedule warmup warmup_kind warmup_rate accumulate workdir resume "
OF_A_RUN += "average_every steps_per_call evaluate_every recompute_statistics early_stopping "
OF_A_RUN += "checkpoint_every keep log_every"


class Finding(NamedTuple):
    """What `find_learning_rate` returns. Arrays are float64 `[N]`, N the steps that were run.

    Attributes:
      rates: the learning rate of each step.
      losses: of each step's batch, before the step; the last may not be finite.
      smoothed: their exponential moving average, without the bias of its start.
      suggestion: a tenth of the rate where the smoothed loss was lowest, or None where it never
        fell.
      diverged: whether the run ended because the loss did.
    """

    rates: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    suggestion: float | None
    diverged: bool

    def describe(self) -> str:
        """The finding in one line."""
        end = f"{'diverged' if self.diverged else 'ended'} at {self.rates[-1]:.3g}"
        if self.suggestion is None:
            return f"no learning rate lowered the loss; {end} after {len(self.rates)} steps"
        lowest = np.nanmin(self.smoothed)
        return (
            f"learning rate {self.suggestion:.2g}; smoothed loss from {self.smoothed[0]:.4f} down "
            f"to {lowest:.4f}, {end} after {len(self.rates)} steps"
        )

    def draw(self):
        """The losses over the learning rate, on a logarithmic axis, as a matplotlib `Figure`."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 4.5), layout="constrained")
        axes = figure.add_subplot()
        axes.plot(self.rates, self.losses, color="0.75", linewidth=1, label="loss of each batch")
        axes.plot(self.rates, self.smoothed, color="C0", linewidth=2, label="smoothed")
        if self.suggestion is not None:
            label = f"suggestion: {self.suggestion:.2g}"
            axes.axvline(self.suggestion, color="C3", linestyle="--", label=label)
        low, high = np.nanmin(self.losses), np.max(self.smoothed[: _lowest(self.smoothed) + 1])
        room = max(high - low, 1e-3 * abs(high))
        axes.set(
            xscale="log",
            xlabel="learning rate",
            ylabel="training loss",
            ylim=(low - 0.1 * room, high + 0.5 * room),  # not up to where it diverged
            title="Learning rate range test",
        )
        axes.grid(alpha=0.3)
        axes.legend()
        return figure

    def _repr_png_(self):
        """The picture, where a notebook shows the finding."""
        written = io.BytesIO()
        self.draw().savefig(written, format="png")
        return written.getvalue()


def find_learning_rate(
    model,
    dataset,
    *,
    smallest: float = 1e-7,
    largest: float = 10.0,
    steps: int = STEPS,
    state: TrainState | None = None,
    variables: dict | None = None,
    **options,
) -> Finding:
    """Trains a little at learning rates that rise from step to step, to see where the loss falls.

    Loss, optimizer, batches and all else are as in `fit` with the same options, but the rate is
    `smallest * (largest / smallest) ** (step / (steps - 1))`. It ends early when the loss is not
    finite, or the smoothed one is above 4 times its lowest.

    Args:
      model, dataset: as in `fit`.
      smallest, largest: rates of the first and the last step.
      steps: at least 2.
      state: where to start, with the step's optimizer state, as `result.state` of the same options;
        it stays as it is. None for a fresh one.
      variables: parameters and statistics to start with, as in `fit`.
      options: the fields of `TrainingOptions`, except what is decided here, or is for longer runs:
        `epochs`, `learning_rate`, `schedule`, `warmup`, `warmup_kind`, `warmup_rate`,
        `accumulate`, `average_every`, `steps_per_call`, `workdir`, `resume`, `evaluate_every`,
        `recompute_statistics`, `early_stopping`, `checkpoint_every`, `keep`, `log_every`.

    Returns: a `Finding`, with a suggestion and `draw()`. The suggestion is a rule of thumb: a tenth
    of the rate where the smoothed loss was lowest, as the largest of a schedule.

    Raises: UserError for options that do not belong here, rates that do not rise, a loss that is
    not finite from the first, and all that `fit` refuses.

    Reference: Smith 2017, "Cyclical learning rates for training neural networks", section 3.3 (the
    range test). Differs: rates rise exponentially, and the loss is looked at, not the accuracy, as
    in Gugger's and Howard's fastai.

    >>> import convnets
    >>> model = convnets.create_model("linear", num_classes=10)
    >>> finding = find_learning_rate(model, convnets.load_dataset("digits"), steps=20)
    >>> float(finding.rates[0]), 1e-4 < finding.suggestion < 1
    (1e-07, True)
    """
    require_options(options)
    if not 0 < smallest < largest < math.inf:
        raise UserError(f"the learning rates rise, from above 0; not from {smallest} to {largest}")
    if steps < 2:
        raise UserError(f"the rate rises over at least 2 steps, not {steps}")
    parallel.keep_memory()
    parallel.cache_compilations()

    def rate(count):
        return smallest * (largest / smallest) ** (count / (steps - 1))

    given = create_options(**options, steps=steps, schedule=rate, steps_per_call=1)
    if not isinstance(given.optimizer, str | None):
        raise UserError("an optimizer of your own has its learning rate; name one")
    origin, start, normalization = name_origin(state, variables), 0, None
    if state is not None:
        start, normalization = int(state.step), state.normalization
    plan = make_plan(model, dataset, given, origin=origin, start=start, normalization=normalization)
    state = plan.create_state(variables) if state is None else plan.adopt(state)
    losses, smoothed = _losses(plan, state)
    rates = np.array([rate(count) for count in range(len(losses))])
    lowest = _lowest(smoothed)
    suggestion = float(rates[lowest]) / 10 if lowest else None
    return Finding(rates, np.array(losses), np.array(smoothed), suggestion, _diverges(smoothed))


def require_options(given) -> None:
    """Raises UserError for options that a search for the learning rate decides itself."""
    names = [name for name in OF_A_RUN.split() if name in given]
    if names:
        raise UserError(f"the search for a learning rate takes no {', '.join(names)}")


def require_drawable(path) -> None:
    """Raises UserError for a file whose name is of no format that matplotlib writes."""
    from matplotlib.figure import Figure

    formats = Figure().canvas.get_supported_filetypes()
    if os.path.splitext(path)[1][1:] not in formats:
        raise UserError(f"cannot draw to {path}; known are .{', .'.join(sorted(formats))}")


def _losses(plan, state):
    """The losses of the steps until they diverge, and their exponential moving averages, divided by
    the weight of what these have seen."""
    losses, smoothed, average = [], [], 0.0
    for _, _, metrics in loop.train(plan.step, state, plan.batches, stop=plan.stop):
        total, count = metrics["loss"]
        losses.append(float(total) / int(count))
        average = SMOOTHING * average + (1 - SMOOTHING) * losses[-1]
        smoothed.append(average / (1 - SMOOTHING ** len(losses)))
        if not math.isfinite(losses[0]):
            raise UserError(f"the loss is {losses[0]} before the first step")
        if _diverges(smoothed):
            break
    return losses, smoothed


def _diverges(smoothed):
    return not smoothed[-1] <= DIVERGED * np.nanmin(smoothed)


def _lowest(smoothed):
    """The step of the lowest smoothed loss."""
    return int(np.nanargmin(smoothed))
