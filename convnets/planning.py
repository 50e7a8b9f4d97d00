"""From a model, a data set and options to a run with everything decided, before it starts."""

import contextlib
import dataclasses
import itertools
import math
from functools import partial

import jax
import jax.numpy as jnp

from . import data, ops, parallel
from .errors import UserError
from .feeding import make_augment, make_batches, resident_examples
from .models import decay_by_depth
from .objective import create_objective
from .ops import image
from .plans import Plan
from .requirements import (
    read_variables,
    require_batch_norm,
    require_classes,
    require_kinds,
    require_validation,
)
from .runs import with_batch_norm_groups, with_precision
from .training import optimizers
from .training.options import TrainingOptions
from .training.state import TrainState
from .training.statistics import make_moments_step, recompute_statistics
from .training.step import make_eval_step, make_step
from .training.update_rule import climb, create_update_rule

EPOCHS, BATCH_SIZE = 30, 64  # where neither is given
STEPS_PER_CALL = 10  # on accelerators, where nothing else is asked for


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
        index, shares = parallel.process_share(step.mesh)
        read = data.batches(
            dataset.train,
            options.batch_size,
            seed=options.seed,
            process_index=index,
            process_count=shares,
            workers=0,
        )
        with contextlib.closing(read(0)) as batches:
            return recompute_statistics(model, state, itertools.islice(batches, count), step=step)

    return recompute
