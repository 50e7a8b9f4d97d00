"""From a model, a data set and options to a run with everything decided, before it starts."""

import contextlib
import dataclasses
import importlib.metadata
import itertools
import json
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from . import data, ops, parallel
from .errors import UserError
from .feeding import make_augment, make_batches, resident_examples
from .models import decay_by_depth
from .objective import create_objective
from .ops import image
from .requirements import (
    read_variables,
    require_batch_norm,
    require_classes,
    require_kinds,
    require_validation,
)
from .runs import evaluate_splits, with_batch_norm_groups, with_precision
from .training import optimizers, schedules
from .training.flattening import flatten, unflatten
from .training.options import NOT_SAVED, TrainingOptions
from .training.state import TrainState
from .training.statistics import make_moments_step, recompute_statistics
from .training.step import make_eval_step, make_step
from .training.update_rule import climb, create_update_rule

EPOCHS, BATCH_SIZE = 30, 64  # where neither is given
RECORDED = ("convnets", "jax", "jaxlib", "flax", "optax")  # versions that decide the numbers
STEPS_PER_CALL = 10  # on accelerators, where nothing else is asked for


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
    observe: Callable | None
    recompute: Callable[[TrainState], TrainState]
    step: parallel.CompiledStep
    eval_step: parallel.CompiledStep
    batches: Callable[[int], Iterator]
    create_state: Callable[..., TrainState]

    def describe(self) -> str:
        """The run in one line."""
        devices = list(self.step.mesh.devices.flat)
        kind = devices[0].device_kind
        sizes = [f"{len(source):,} {split}" for split, source in self.dataset.splits.items()]
        return (
            f"{self.dataset.name}: {', '.join(sizes)}; steps of {self.options.batch_size} examples "
            f"up to step {self.stop:,}; {self.options.parallel}, {len(devices)} x {kind}"
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

    def is_due(self, number: int, every: int) -> bool:
        """Whether something that happens every so many steps, and at the end, happens now."""
        return number % every == 0 or number == self.stop

    def next_stop(self, number: int) -> int:
        """The next step at which anything is due."""
        periods = (self.options.log_every, self.evaluate_every, self.checkpoint_every)
        return min(self.stop, *(number - number % every + every for every in periods))

    def rate(self, number: int, state: TrainState) -> float | None:
        """The learning rate of the step before, None for an optimizer of the caller's own."""
        if self.learning_rate is None:
            return None
        updates = (number - 1) // self.options.accumulate
        return float(self.learning_rate(updates)) * schedules.plateau_scale(state.opt_state)

    def evaluate(self, state: TrainState) -> dict:
        """Every metric on validation, where there is such a split, and on test."""
        return evaluate_splits(self.eval_step, state, self.dataset, self.options.batch_size)

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


def name_origin(state, variables) -> str | None:
    """What a run begins from: `state`, `variables`, or None. Raises UserError for both."""
    if state is not None and variables is not None:
        raise UserError("give a state to go on from or variables to begin with, not both")
    if state is None:
        return None if variables is None else "variables"
    return "state"


def make_plan(
    model,
    dataset,
    options: TrainingOptions,
    *,
    origin: str | None = None,
    start: int = 0,
    normalization: image.Normalization | None = None,
) -> Plan:
    """Decides everything about a run.

    Args:
      model: from images to logits.
      dataset: from `load_dataset`.
      options: what was asked for.
      origin: what the run began from, as in `Plan`.
      start: the step that the run begins at; steps and schedule count from there.
      normalization: of the images; the data set's own if None.

    Raises: UserError for options that do not fit each other, the data or the devices.
    """
    mesh = parallel.create_mesh(options.devices)
    require_kinds(model, dataset)
    options = _fill_in(options, len(dataset.train), mesh)
    parallel.require_divisible(options.batch_size, mesh.size)
    stop = start + _count_steps(options, len(dataset.train))
    if stop >= 2**31:  # the state's counter is an int32
        raise UserError(f"the run would go on to step {stop:.6g}; there are at most {2**31 - 1:,}")
    evaluate_every = options.evaluate_every or math.ceil(len(dataset.train) / options.batch_size)

    model = with_precision(model, options.precision)
    model = with_batch_norm_groups(model, options.batch_norm_group)
    params = require_classes(model, dataset)
    require_batch_norm(model, dataset, options, fresh=origin is None and not options.resume)
    normalization = dataset.normalization if normalization is None else normalization
    require_validation(dataset, options)
    crop, augment = make_augment(options.augment)
    loss_fn = create_objective(
        model, options, normalization, augment, image_shape=dataset.image_shape, devices=mesh.size
    )
    depth_scales = None
    if options.layer_decay is not None:
        depth_scales = decay_by_depth(model, dataset.image_shape, options.layer_decay)
    learning_rate, optimizer, observe = create_update_rule(options, start, stop, depth_scales)
    jax.eval_shape(optimizer.init, params)  # refuses patterns that match nothing
    examples = resident_examples(dataset.train, crop)
    compiled = partial(
        parallel.compile, strategy=options.parallel, mesh=mesh, lowering=options.lowering
    )
    step = make_step(loss_fn, optimizer, ema=options.ema, wrap_gradient=climb(options))
    step = compiled(step, examples=examples, steps_per_call=options.steps_per_call)
    return Plan(
        options=options,
        dataset=dataset,
        normalization=normalization,
        origin=origin,
        start=start,
        stop=stop,
        evaluate_every=evaluate_every,
        checkpoint_every=options.checkpoint_every or evaluate_every,
        learning_rate=learning_rate,
        observe=observe,
        recompute=_make_recompute(model, dataset, options, compiled),
        step=step,
        eval_step=compiled(make_eval_step(loss_fn), donate=False),
        batches=make_batches(dataset.train, options, step, crop, resident=examples is not None),
        create_state=partial(_create_state, model, dataset, optimizer, options, normalization),
    )


def _fill_in(options, examples, mesh):
    """The options with what depends on others: batch size, learning rate, epochs, …."""
    batch_size, rate, epochs = options.batch_size, options.learning_rate, options.epochs
    calls, devices = options.steps_per_call, mesh.size
    if calls is None:  # on the CPU a loop on the device is slower than the host
        calls = 1 if mesh.devices.flat[0].platform == "cpu" else STEPS_PER_CALL
    if batch_size is None:
        multiple = devices * (2 if options.mix is not None else 1)  # examples are mixed in pairs
        batch_size = math.ceil(BATCH_SIZE / multiple) * multiple
        if examples < batch_size:
            batch_size = max(examples // multiple, 1) * multiple
    if rate is None and isinstance(options.optimizer, str) and not callable(options.schedule):
        rate = optimizers.default_learning_rate(options.optimizer)
    if epochs is None and options.steps is None:
        epochs = EPOCHS
    with ops.lowering(options.lowering or ops.requested_lowering()):
        lowering = ops.current_lowering()
    return dataclasses.replace(
        options,
        batch_size=batch_size,
        learning_rate=rate,
        epochs=epochs,
        steps_per_call=calls,
        lowering=lowering,
    )


def _count_steps(options, examples):
    steps = options.steps
    if steps is None:
        steps = math.ceil(options.epochs * examples / options.batch_size)
    return math.ceil(steps / options.accumulate) * options.accumulate


def _create_state(model, dataset, optimizer, options, normalization, variables=None):
    init_key, key = jax.random.split(jax.random.key(options.seed))
    images, init = jnp.zeros((1, *dataset.image_shape)), partial(model.init, train=False)
    if variables is None:
        variables = jax.jit(init)(init_key, images)
    else:
        variables = read_variables(jax.eval_shape(init, init_key, images), variables)
    return TrainState.create(
        variables, optimizer, key, ema=options.ema is not None, normalization=normalization
    )


def _make_recompute(model, dataset, options, compiled):
    """What computes batch statistics anew from the first batches of a pass over the training split,
    always the same; the identity where that is not asked for."""
    if options.recompute_statistics is None:
        return lambda state: state
    step = compiled(make_moments_step(model), donate=False)
    count = min(options.recompute_statistics, len(dataset.train) // options.batch_size)

    def recompute(state):
        # by threads, for processes would be started anew each time
        read = data.batches(dataset.train, options.batch_size, seed=options.seed, workers=0)
        with contextlib.closing(read(0)) as batches:
            return recompute_statistics(model, state, itertools.islice(batches, count), step=step)

    return recompute


def _as_json(value):
    """An option as JSON data; what only Python can hold is named by its type."""
    value = value.item() if isinstance(value, np.generic) else value
    if value is None or isinstance(value, str | int | float) or type(value) is tuple:
        return value  # Optax's transformations are named tuples
    return f"<{type(value).__name__}>"
