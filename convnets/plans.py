"""A run with everything decided, before it starts."""

import dataclasses
import importlib.metadata
import json
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import numpy as np
import optax

from . import data, parallel
from .errors import UserError
from .ops import image
from .requirements import ranks
from .runs import evaluate_splits
from .training import schedules
from .training.flattening import flatten, unflatten
from .training.options import NOT_SAVED, TrainingOptions
from .training.server_options import steps_of_an_update, uses_server
from .training.state import TrainState

RECORDED = ("convnets", "jax", "jaxlib", "flax", "optax")  # versions that decide the numbers


class Plan(NamedTuple):
    """A run with everything decided.

    Attributes:
      options: as given, with batch size and learning rate filled in.
      dataset: what to train on.
      normalization: of its images.
      origin: what the run began from: `state`, `variables`, or None for random parameters.
      start, stop: the steps that the run, not merely this part of it, goes from and to.
      evaluate_every, checkpoint_every: in steps.
      learning_rate: of the number of updates before; None for an optimizer of the caller's own.
      loss_fn, optimizer: what the step is made of.
      observe: `(opt_state, validation loss) -> opt_state`, None without a plateau schedule.
      recompute: `state -> state` before evaluations, with exact batch statistics where asked for;
        from there on averages run, which are what a checkpoint between evaluations has.
      step, eval_step: compiled for the devices.
      batches: `start -> iterator` of placed batches.
      create_state: makes the state before the first step, of given variables where there are any.
    """

    options: TrainingOptions
    dataset: data.Dataset
    normalization: image.Normalization
    origin: str | None
    start: int
    stop: int
    evaluate_every: int
    checkpoint_every: int
    learning_rate: Callable[[int], float] | None
    loss_fn: Callable
    optimizer: optax.GradientTransformation
    observe: Callable | None
    recompute: Callable[[TrainState], TrainState]
    step: parallel.CompiledStep
    eval_step: parallel.CompiledStep
    batches: Callable[[int], Iterator]
    create_state: Callable[..., TrainState]

    def describe(self) -> str:
        """The run in one line."""
        options, devices = self.options, list(self.step.mesh.devices.flat)
        where = f"{len(devices)} x {devices[0].device_kind}"
        if uses_server(options):
            where = f"{options.workers} workers, {options.shards} shards"
        sizes = [f"{len(source):,} {split}" for split, source in self.dataset.splits.items()]
        return (
            f"{self.dataset.name}: {', '.join(sizes)}; steps of {options.batch_size} examples "
            f"up to step {self.stop:,}; {options.parallel}, {where}"
        )

    def adopt(self, state: TrainState) -> TrainState:
        """A given state, to go on from; with the data's normalization where it has none.

        Raises: UserError for a state of another model or optimizer, of other moving averages, or
        that was trained with another `accumulate`.
        """
        template = jax.eval_shape(self.create_state)
        if state.normalization is None:
            arrays = (np.asarray(x, np.float32) for x in self.normalization)
            state = state.replace(normalization=image.Normalization(*arrays))
        state = unflatten(template, flatten(state), "the given state")
        if isinstance(state.opt_state, optax.MultiStepsState):
            every = self.options.accumulate
            made, expected = int(state.opt_state.gradient_step), self.start // every
            if made != expected:
                raise UserError(
                    f"the given state has made {made} updates in {self.start} steps, where "
                    f"accumulate {every} makes {expected}: give the accumulate of its run"
                )
        return state

    def epoch(self, number: int) -> float:
        """Passes over the training split after a number of steps."""
        return number * self.options.batch_size / len(self.dataset.train)

    def is_due(self, number: int, every: int, before: int | None = None) -> bool:
        """Whether something that happens every so many steps, and at the end, happens now, or has
        come due since another step."""
        before = number - 1 if before is None else before
        return number // every > before // every or number == self.stop

    def next_stop(self, number: int) -> int:
        """The next step at which anything is due."""
        every = self.options.log_every
        return min(self.next_look(number), number - number % every + every)

    def next_look(self, number: int) -> int:
        """The next step at which the state is evaluated or saved."""
        periods = (self.evaluate_every, self.checkpoint_every)
        return min(self.stop, *(number - number % every + every for every in periods))

    def rate(self, number: int, state: TrainState) -> float | None:
        """The learning rate of the step before, None for an optimizer of the caller's own."""
        if self.learning_rate is None:
            return None
        updates = (number - 1) // steps_of_an_update(self.options)
        scale = 1.0 if uses_server(self.options) else schedules.plateau_scale(state.opt_state)
        return float(self.learning_rate(updates)) * scale

    def evaluate(self, state: TrainState) -> dict:
        """Every metric on validation, where there is such a split, and on test; a loss by which no
        state is the best is not said of validation."""
        found = evaluate_splits(self.eval_step, state, self.dataset, self.options.batch_size)
        if not ranks(self.loss_fn):
            found.pop("validation_loss", None)
        return found

    def config(self, identity: dict) -> dict:
        """What `config.json` says: the run's identity, its data, every option, the versions."""
        options = {
            field.name: _as_json(getattr(self.options, field.name))
            for field in dataclasses.fields(self.options)
            if field.name not in NOT_SAVED
        }
        dataset = {
            "image_shape": self.dataset.image_shape,
            "class_names": self.dataset.class_names,
            "normalization": {
                name: np.asarray(values, np.float32).tolist()
                for name, values in self.normalization._asdict().items()
            },
            "train_examples": len(self.dataset.train),
        }
        versions = {name: importlib.metadata.version(name) for name in RECORDED}
        config = {**identity, "origin": self.origin, "start": self.start, **options}
        return {**json.loads(json.dumps(config | {"dataset": dataset})), "versions": versions}


def _as_json(value):
    """An option as JSON data; what only Python can hold is named by its type."""
    value = value.item() if isinstance(value, np.generic) else value
    if value is None or isinstance(value, str | int | float) or type(value) is tuple:
        return value  # Optax's transformations are named tuples
    return f"<{type(value).__name__}>"
