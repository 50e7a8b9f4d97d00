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
    require_asynchronous,
    require_batch_norm,
    require_kinds,
    require_outputs,
    require_shards,
    require_strategy,
    require_update,
    require_validation,
)
from .runs import with_batch_norm_groups, with_precision
from .training import optimizers
from .training.options import TrainingOptions
from .training.server_options import round_steps, uses_server
from .training.state import TrainState
from .training.statistics import make_moments_step, recompute_statistics
from .training.step import make_eval_step, make_step
from .training.update_rule import climb, create_update_rule

EPOCHS, BATCH_SIZE = 30, 64  # where neither is given
WORKERS = 2  # of a parameter server, where nothing else is asked for
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
    mesh=None,
    rules=(),
    objective=None,
) -> Plan:
    """Decides everything about a run.

    Args:
      model: from images to logits.
      dataset: from `load_dataset`.
      options: what was asked for.
      origin: what the run began from, as in `Plan`.
      start: the step that the run begins at; steps and schedule count from there.
      normalization: of the images; the data set's own if None.
      mesh, rules, objective: as in `fit`.

    Raises: UserError for options that do not fit each other, the data or the devices.
    """
    require_kinds(model, dataset)
    require_asynchronous(options)
    mesh = _choose_mesh(options, mesh, rules)
    options = _fill_in(options, len(dataset.train), mesh)
    shape, shares = dataset.image_shape, parallel.data_parts(mesh)
    parallel.require_divisible(options.batch_size, shares)
    require_strategy(options, start, shares)
    stop = _require_countable(start + _count_steps(options, len(dataset.train)))
    evaluate_every = options.evaluate_every or _steps_of_an_epoch(options, len(dataset.train))

    model = with_precision(model, options.precision)
    model = with_batch_norm_groups(model, options.batch_norm_group)
    params = require_outputs(model, dataset, objective)
    require_shards(options, params)
    require_batch_norm(model, dataset, options, fresh=origin is None and not options.resume)
    normalization = dataset.normalization if normalization is None else normalization
    crop, augment = make_augment(options.augment)
    about = {"image_shape": shape, "devices": shares, "objective": objective}
    loss_fn = create_objective(model, options, normalization, augment, **about)
    require_validation(dataset, options, loss_fn)
    depth_scales = None
    if options.layer_decay is not None:
        depth_scales = decay_by_depth(model, shape, options.layer_decay)
    learning_rate, optimizer, observe = create_update_rule(options, start, stop, depth_scales)
    require_update(optimizer, params)
    examples = resident_examples(dataset.train, crop)
    parallel.parameter_specs(params, mesh, rules)  # refuses rules that do not fit
    strategy = "jit" if uses_server(options) else options.parallel
    parts = {"mesh": mesh, "rules": rules, "shard_optimizer": options.shard_optimizer}
    compiled = partial(parallel.compile, strategy=strategy, lowering=options.lowering, **parts)
    step = _make_step(loss_fn, optimizer, options, partial(compiled, examples=examples))
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
        loss_fn=loss_fn,
        optimizer=optimizer,
        observe=observe,
        recompute=_make_recompute(model, dataset, options, compiled),
        step=step,
        eval_step=compiled(make_eval_step(loss_fn), donate=False),
        batches=make_batches(dataset.train, options, step, crop, resident=examples is not None),
        create_state=partial(_create_state, model, shape, optimizer, options, normalization, parts),
    )


def _require_countable(stop):
    if stop >= 2**31:  # the state's counter is an int32
        raise UserError(f"the run would go on to step {stop:.6g}; there are at most {2**31 - 1:,}")
    return stop


def _choose_mesh(options, mesh, rules):
    """The mesh that was given, or that of the options; with an axis `model` where that is asked
    for."""
    if uses_server(options):
        if mesh is not None or rules:
            raise UserError("a parameter server has no mesh: leave out mesh and rules")
        if parallel.is_connected():
            raise UserError("a parameter server starts its own processes: run it in one")
        return parallel.create_mesh(1)
    if mesh is None:
        model = options.model_parallel if options.model_parallel > 1 else None
        return parallel.create_mesh(options.devices, model=model)
    if options.devices is not None or options.model_parallel > 1:
        raise UserError("give a mesh, or devices and model_parallel, not both")
    parallel.require_axes(mesh)
    return mesh


def _fill_in(options, examples, mesh):
    """The options with what depends on others: batch size, learning rate, epochs, …."""
    batch_size, rate, epochs = options.batch_size, options.learning_rate, options.epochs
    calls, devices = options.steps_per_call, parallel.data_parts(mesh)
    optimizer, every = options.optimizer, options.average_every
    if optimizer is None:
        optimizer = "adagrad" if uses_server(options) else "adam"
    if uses_server(options):
        calls = 1
    elif calls is None and every > 1:  # a state between two averages is none
        calls = every
    elif calls is None:  # on the CPU a loop on the device is slower than the host
        calls = 1 if mesh.devices.flat[0].platform == "cpu" else STEPS_PER_CALL
    if batch_size is None:
        multiple = devices * (2 if options.mix is not None else 1)  # examples are mixed in pairs
        batch_size = math.ceil(BATCH_SIZE / multiple) * multiple
        if examples < batch_size:
            batch_size = max(examples // multiple, 1) * multiple
    if rate is None and isinstance(optimizer, str) and not callable(options.schedule):
        rate = optimizers.default_learning_rate(optimizer)
    if epochs is None and options.steps is None:
        epochs = EPOCHS
    with ops.lowering(options.lowering or ops.requested_lowering()):
        lowering = ops.current_lowering()
    periods = ("log_every", "evaluate_every", "checkpoint_every")
    given = {name: getattr(options, name) for name in periods if getattr(options, name) is not None}
    return dataclasses.replace(
        options,
        **{name: _round_up(steps, every) for name, steps in given.items()},
        batch_size=batch_size,
        optimizer=optimizer,
        learning_rate=rate,
        workers=(options.workers or WORKERS) if uses_server(options) else options.workers,
        epochs=epochs,
        steps_per_call=calls,
        lowering=lowering,
    )


def _count_steps(options, examples):
    steps = options.steps
    if steps is None:
        steps = math.ceil(options.epochs * examples / options.batch_size)
    if uses_server(options):
        return round_steps(options, steps)
    return _round_up(steps, math.lcm(options.accumulate, options.average_every))


def _steps_of_an_epoch(options, examples):
    return _round_up(math.ceil(examples / options.batch_size), options.average_every)


def _round_up(steps, multiple):
    return math.ceil(steps / multiple) * multiple


def _make_step(loss_fn, optimizer, options, compiled):
    step = make_step(
        loss_fn,
        optimizer,
        ema=options.ema,
        wrap_gradient=climb(options),
        compress=options.compress_gradients,
    )
    local = options.average_every > 1
    return compiled(step, steps_per_call=options.steps_per_call, local=local)


def _create_state(model, shape, optimizer, options, normalization, parts, variables=None):
    """The first state; of random parameters each device of a mesh with parts makes its own."""
    init_key, key = jax.random.split(jax.random.key(options.seed))
    images, init = jnp.zeros((1, *shape)), partial(model.init, train=False)
    ema = options.ema is not None
    create = partial(
        TrainState.create, optimizer=optimizer, key=key, ema=ema, normalization=normalization
    )
    if variables is not None:
        return create(read_variables(jax.eval_shape(init, init_key, images), variables))
    if parallel.is_sharded(**parts):
        return parallel.create_sharded(lambda: create(init(init_key, images)), **parts)()
    return create(jax.jit(init)(init_key, images))


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
            workers=0,
            process_index=index,
            process_count=shares,
        )
        with contextlib.closing(read(0)) as batches:
            return recompute_statistics(model, state, itertools.islice(batches, count), step=step)

    return recompute
