"""Where model, data, training and parallel meet: `fit`."""

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable
from functools import partial
from signal import Signals
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from . import parallel
from .asynchronous import train_asynchronously
from .errors import NotFiniteError, UserError
from .looking import look
from .opening import opened, where_to_go_on
from .ops.image import Normalization
from .planning import make_plan, name_origin
from .plans import Plan
from .runs import name_objective
from .training import journal, loop, reporting
from .training.interruption import interruption
from .training.options import create_options, read_options
from .training.recording import Record
from .training.server_options import uses_server
from .training.state import TrainState


class Result(NamedTuple):
    """What `fit` returns.

    Attributes:
      state: the last state, a plain copy on the host.
      history: the lines of `metrics.jsonl`, as dicts: about training, and about evaluations. Of the
        time behind `images_per_second`, `data_wait` is the share, in [0, 1], that the loop waited
        for its next batch; the devices may have been at work on the last one meanwhile.
      signal: the number of the signal that ended the run early, or None. A script that has more to
        do asks for it.
    """

    state: TrainState
    history: list[dict]
    signal: int | None = None

    def __repr__(self):
        last = f", {reporting.describe(self.history[-1])}" if self.history else ""
        return f"Result({self.state!r}{last})"


def fit(
    model,
    dataset,
    *,
    state: TrainState | None = None,
    variables: dict | None = None,
    identity: dict | None = None,
    mesh: Mesh | None = None,
    rules: parallel.Rules = (),
    objective: Callable | None = None,
    progress: bool = True,
    **options,
) -> Result:
    """Trains a classifier, or any other model by an objective of its own.

    Compiled programs are kept for the next time, see `parallel.cache_compilations`, and freed
    memory for the next step, see `parallel.keep_memory`.

    Args:
      model: a `flax.linen.Module` from images to logits, as `create_model` gives.
      dataset: from `load_dataset`.
      state: a state to go on from, as `result.state`; it stays as it is. `epochs` or `steps` and
        the schedule count from there. Its own normalization holds, where it has one.
      variables: parameters and statistics to begin with in the place of random ones, for
        fine-tuning: `{"params": …, "batch_stats": …}`, as `load_pretrained` or
        `result.state.variables()` gives. They stay as they are. All else is fresh: the optimizer's
        state, step 0, and the normalization, which is the data set's; that of pretrained weights
        goes in by `dataclasses.replace(dataset, normalization=preprocessing.normalization)`.
      identity: what else the run's `config.json` says and a resumed run must have in common.
      mesh: the devices, with the axis `data`, and `model` for sharded parameters
        (`parallel.create_mesh(model=...)`), in place of the options `devices` and `model_parallel`.
      rules: how which parameters are sharded, before those by default; see
        `parallel.parameter_specs`.
      objective: `(model, *, normalization) -> loss function`, as those of `unsupervised` and
        partials of them, in the place of classification: the model returns what that takes, and
        lines name its metrics, of which one is `loss`. The best on validation has the least loss;
        there is none where the loss function has an attribute `ranks` that is False. Images are not
        augmented, but by the objective itself.
      progress: whether to print.
      options: the fields of `TrainingOptions`: `epochs`, `batch_size`, `optimizer`, `augment`,
        `workdir`, ….

    Returns: a `Result`. Ctrl-C or SIGTERM end the run after the step (or the call of several)
    under way, with a checkpoint where there is a workdir. After `parallel.connect` every process
    calls `fit` alike and gets the same result; process 0 alone writes and prints, and its workdir
    and `resume` hold for all: the others need none to read from.

    Raises: UserError for options that do not fit each other, the data or the devices; for
    variables that are not the model's, naming what is missing, left over or of another shape; and
    for a workdir that holds another run. NotFiniteError, a UserError, when the loss is no longer
    finite; LostProcessError, one too, when another process of the run died.

    >>> import convnets
    >>> model = convnets.create_model("linear", num_classes=10)
    >>> result = fit(model, convnets.load_dataset("digits"), steps=30, progress=False)
    >>> result.history[-1]["test_examples"], int(result.state.step)
    (359, 30)
    >>> tuned = fit(model, convnets.load_dataset("digits"), variables=result.state.variables(),
    ...             freeze="head/bias", optimizer="sgd", steps=1, progress=False)
    >>> int(tuned.state.step), tuned.state.params["head"]["bias"].tobytes() == (
    ...     result.state.params["head"]["bias"].tobytes())
    (1, True)
    """
    parallel.keep_memory()
    parallel.cache_compilations()
    if objective is not None:
        options = {"augment": "none", **options}
    given = _where_process_0_writes(create_options(**options))
    origin = name_origin(state, variables)
    if given.resume and origin is not None:
        raise UserError(f"give a run its {origin} to begin with or resume it, not both")
    progress = progress and parallel.is_first()
    saved = None
    if given.resume:
        saved = parallel.first_decides(
            partial(journal.read_config, given.workdir), "the config of the run to resume"
        )
    besides = {"mesh": mesh, "rules": rules, "objective": objective}
    plan = _make_plan(model, dataset, given, origin, state, saved, **besides)
    if state is not None:
        state = plan.adopt(state)
    elif variables is not None:
        state = plan.create_state(variables)
    name = getattr(model, "registry_name", None) or type(model).__name__
    identity = {"model": name, "data": dataset.name, **(identity or {})}
    if objective is not None:
        identity["objective"] = name_objective(objective)
    with (
        parallel.ending_together(),
        interruption() as received,
        parallel.stopping(received) as signal_after,
        opened(plan, identity, saved, state, progress) as (state, record),
        parallel.ending_together(partial(where_to_go_on, plan, record)),
        _naming_the_last_checkpoint(record),
    ):
        state = _first_state(plan, state)
        result = _run(plan, state, record, signal_after, progress)
    parallel.wait_for_others("the end of the training")  # they may read what process 0 has written
    if result.signal is not None and progress:
        where = (
            f"checkpoint in {record.checkpoints.folder}"
            if record.workdir
            else "nothing was written, for there is no workdir"
        )
        name = Signals(result.signal).name
        print(f"stopped by {name} after step {int(result.state.step)}; {where}")
    return result


def _where_process_0_writes(given):
    """The options with process 0's workdir, or none, and whether it resumes the run there."""
    workdir = given.workdir and os.fspath(given.workdir)
    names = {"workdir": workdir, "resume": given.resume}
    return dataclasses.replace(given, **parallel.first_decides(lambda: names, "the workdir"))


def _make_plan(model, dataset, given, origin, state, saved, **besides):
    """The plan of a new run, of one that goes on from a state, or of one that is resumed."""
    start, normalization = 0, None
    if saved is not None:
        read_options(saved)  # refuses what is none
        start = saved["start"]
        origin = saved.get("origin", "state" if start else None)
        normalization = Normalization(**saved["dataset"]["normalization"])
        for name in ("batch_size", "steps_per_call"):  # the defaults depend on the devices
            if getattr(given, name) is None:
                given = dataclasses.replace(given, **{name: saved[name]})
    elif state is not None:
        start, normalization = int(state.step), state.normalization
    return make_plan(
        model, dataset, given, origin=origin, start=start, normalization=normalization, **besides
    )


def _first_state(plan: Plan, state: TrainState | None) -> TrainState:
    """The state to go on from, which process 0 has, or else a fresh one, on every process."""
    if parallel.first_decides(lambda: state is None, "whether the state is fresh"):
        state = plan.create_state()
    elif state is None:  # all devices together would make a fresh one where it is sharded
        shapes = jax.eval_shape(plan.create_state)
        state = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    return parallel.broadcast_arrays(state)


def _run(plan: Plan, state: TrainState, record: Record, signal_after, progress: bool) -> Result:
    """Trains to the end of the plan, or until a signal is received."""
    number = int(state.step)
    signal = signal_after(number)
    if progress:
        print(plan.describe())
    if number >= plan.stop or record.stopped:
        return _finished(plan, state, record, progress)
    if uses_server(plan.options):
        received = partial(signal_after, number)
        state, signal = train_asynchronously(plan, state, record, received, progress)
        return Result(state, record.history, signal)
    with contextlib.ExitStack() as stack:
        bar = stack.enter_context(reporting.open_bar(plan.stop, number, shown=progress))
        batches = stack.enter_context(contextlib.closing(plan.batches(number)))
        report = partial(_note_compilation, record, bar, progress)
        step = plan.step._replace(run=parallel.report_first_call(plan.step.run, report))
        batches = loop.Waiting(batches)
        target = loop.end_of_call(step, number, plan.next_stop(number))  # one call: it compiles
        while number < plan.stop and signal is None and not record.stopped:
            start, since, waited = number, time.monotonic(), batches.seconds
            steps = loop.advance(step, state, batches, stop=target)
            for number, state, measured in steps:  # noqa: B007
                record.meter.add(number, measured)
                bar.update(number - bar.n)
                signal = signal_after(number)
                if signal is not None:
                    break
            record.meter.read()
            seconds = time.monotonic() - since
            speed = {
                "images_per_second": (number - start) * plan.options.batch_size / seconds,
                "data_wait": (batches.seconds - waited) / seconds,
            }
            state = _do_what_is_due(plan, number, state, record, speed, bar, progress)
            target = plan.next_stop(number)
        state = parallel.gather(state)
        if signal is not None:
            record.save(number, state)
    return Result(state, record.history, signal)


def _note_compilation(record, bar, progress, seconds, cached):
    record.note(compile_seconds=seconds)
    if progress:
        reporting.say(bar, f"{'from the cache' if cached else 'compiled'} in {seconds:.1f} s")


def _do_what_is_due(plan, number, state, record, speed, bar, progress):
    """Does what is due at a step: a line on training, an evaluation, a checkpoint."""
    due = plan.is_due(number, plan.checkpoint_every)
    if plan.is_due(number, plan.options.log_every):
        line = {f"train_{name}": mean for name, mean in record.meter.take().items()}
        line |= {"learning_rate": plan.rate(number, state), **speed}
        line = record.write(number, plan.epoch(number), line)
        reporting.show(bar, line, aloud=progress and bar.disable)
    if plan.is_due(number, plan.evaluate_every):
        state, line, due = look(plan, number, state, record, bar, progress, due=due)
        if plan.observe is not None:
            state = state.replace(opt_state=plan.observe(state.opt_state, line["validation_loss"]))
    if plan.options.workdir and due:  # a sharded state is gathered by all processes together
        record.save(number, parallel.gather(state))
    return state


def _finished(plan, state, record, progress):
    """A run with no step left to do: its last evaluation, which is made if there is none."""
    if progress and plan.options.resume:
        print(f"the run is at step {int(state.step)} already; there is no step left")
    if not record.history or "test_loss" not in record.history[-1]:
        state = plan.recompute(state)
        record.write(int(state.step), plan.epoch(int(state.step)), plan.evaluate(state))
    if progress:
        print(reporting.describe(record.history[-1]))
    return Result(parallel.gather(state), record.history)


@contextlib.contextmanager
def _naming_the_last_checkpoint(record):
    """Adds to the error of a loss that is not finite where one can go on from."""
    try:
        yield
    except NotFiniteError as error:
        steps = record.checkpoints.steps() if record.checkpoints else []
        kept = f"the checkpoint of step {steps[-1]} is kept" if steps else "there is no checkpoint"
        raise NotFiniteError(f"{error}; {kept}") from None
