"""A run by a parameter server: what its workers and shards do, and what is looked at on the way."""

import contextlib
import time
from functools import partial
from pathlib import Path

import jax
import numpy as np
import optax

from . import data, ops, parallel
from .feeding import make_augment
from .looking import look
from .parallel import downpour
from .parallel.parameter_server import create_shards, join_shards
from .parallel.workers import Task
from .plans import Plan
from .training import reporting
from .training.clipping import create_clipping
from .training.recording import Record
from .training.server_options import warm_steps
from .training.state import TrainState
from .training.step import gradient


def create_task(plan: Plan, state: TrainState) -> Task:
    """What workers do: the gradient of the run's loss on their share of its batches."""
    options = plan.options
    crop, _ = make_augment(options.augment)
    read = data.batches(plan.dataset.train, options.batch_size, seed=options.seed, crop=crop)
    empty = state.replace(step=None, params=None, batch_stats=None, opt_state=None)
    clipping = create_clipping(
        value=options.clip_value, adaptive=options.clip_adaptive, norm=options.clip
    )
    return Task(
        gradient=partial(
            _gradient, gradient(plan.loss_fn), options.lowering, parallel.gather(empty)
        ),
        limit=partial(_limit, optax.chain(optax.identity(), *clipping)),
        read=partial(_read, read),
        workers=options.workers,
        push_every=options.push_every,
        fetch_every=options.fetch_every,
        start=plan.start,
        warm_start=warm_steps(options),
    )


def _gradient(gradient_fn, lowering, state, params, batch_stats, step, batch):
    state = state.replace(step=step, params=params, batch_stats=batch_stats)
    with ops.lowering(lowering):
        return gradient_fn(state, batch)


def _limit(clipping, grads, params):
    return clipping.update(grads, clipping.init(params), params)[0]


def _read(from_step, place):
    with contextlib.closing(from_step(place)) as batches:
        return next(batches)


def train_asynchronously(plan: Plan, state: TrainState, record: Record, received, progress: bool):
    """Trains to the end of the plan, or until a signal is received.

    Workers go on by themselves up to the next evaluation or checkpoint, where all are awaited: what
    is evaluated and saved has seen a known number of batches of each.

    Returns: the last state on the host, and the number of the signal or None.
    """
    task, options = create_task(plan, state), plan.options
    template = jax.eval_shape(plan.create_state)
    counts, sent = downpour.counts_for(task, options.shards, record.server)
    shards = create_shards(
        *parallel.gather((state.params, state.batch_stats, state.opt_state)),
        plan.optimizer,
        options.shards,
        counts,
    )
    with contextlib.ExitStack() as stack:
        bar = stack.enter_context(reporting.open_bar(plan.stop, int(state.step), shown=progress))
        say = partial(reporting.say, bar) if progress else lambda text: None
        begin = time.monotonic()
        say(f"starting workers: {options.workers}, shards: {options.shards}")
        server = stack.enter_context(
            downpour.run_downpour(
                task,
                plan.optimizer,
                shards,
                folder=Path(record.workdir, "shards") if record.workdir else None,
                address=options.ray_address,
                sent=sent,
                staleness_bound=options.staleness_bound,
            )
        )
        number, report = int(state.step), None
        if server.start(received):
            say(f"all have started after {time.monotonic() - begin:.0f} s")
        watch, signal = _Watch(plan, task, record, bar, progress), received()
        while number < plan.stop and signal is None and not record.stopped:
            before = number
            target = plan.next_look(number) - plan.start
            server.run(task.until(target), tick=watch, stop=received)
            number, signal = plan.start + task.steps(server.done), received()
            if number == before:  # stopped while the workers started
                break
            state, report = _gather(server, state, template, number)
            record.server = downpour.saved_counts(report.shards, server.hear())
            state = _do_what_is_due(plan, before, number, state, record, report, bar, progress)
            if record.saved == number:
                server.save()
        if signal is not None:
            record.save(number, state)
        if report is not None:
            say(report.describe())
    return state, signal


def _gather(server, state, template, number):
    """The state that the shards have, on the host, and what has become of all pushes."""
    shards = server.read()
    params, batch_stats, opt_state = join_shards(shards, template.opt_state)
    state = parallel.gather(state).replace(
        step=np.int32(number), params=params, batch_stats=batch_stats, opt_state=opt_state
    )
    return state, downpour.make_report([shard.counts for shard in shards], server.hear())


def _do_what_is_due(plan, before, number, state, record, report, bar, progress):
    """Does what is due since a step: an evaluation, a checkpoint."""
    due = plan.is_due(number, plan.checkpoint_every, before)
    if plan.is_due(number, plan.evaluate_every, before):
        server = report.as_json()
        state, _, due = look(plan, number, state, record, bar, progress, due=due, server=server)
        state = parallel.gather(state)
    if record.workdir and due:
        record.save(number, state)
    return state


class _Watch:
    """Called with what the gate has heard: moves the bar, and writes the lines on training."""

    def __init__(self, plan, task, record, bar, progress):
        self._plan, self._task, self._record = plan, task, record
        self._bar, self._progress = bar, progress
        self._last, self._since = bar.n, time.monotonic()

    def __call__(self, heard):
        plan, record = self._plan, self._record
        number = plan.start + self._task.steps(heard.done)
        if heard.metrics:
            record.meter.add(number, heard.metrics)
            record.meter.read()
        self._bar.update(number - self._bar.n)
        if not (record.meter.totals() and plan.is_due(number, plan.options.log_every, self._last)):
            return
        now = time.monotonic()
        line = {f"train_{name}": mean for name, mean in record.meter.take().items()}
        examples = (number - self._last) * plan.options.batch_size
        line["learning_rate"] = plan.rate(number, None)
        line["images_per_second"] = examples / (now - self._since)
        line = record.write(number, plan.epoch(number), line)
        reporting.show(self._bar, line, aloud=self._progress and self._bar.disable)
        self._last, self._since = number, now
