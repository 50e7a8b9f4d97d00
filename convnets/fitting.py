"""Where model, data, training and parallel meet: `fit` and `predict`."""

import contextlib
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from . import parallel
from .errors import UserError
from .ops import image
from .planning import make_plan
from .training import evaluation, journal, loop, reporting
from .training.checkpoints import Checkpoints, score
from .training.interruption import interruption
from .training.options import create_options, require_same_run
from .training.state import TrainState


class Result(NamedTuple):
    """What `fit` returns.

    Attributes:
      state: the last state, a plain copy on the host.
      history: the lines of `metrics.jsonl`, as dicts: about training, and about evaluations.
      signal: the number of the signal that ended the run early, or None.
    """

    state: TrainState
    history: list[dict]
    signal: int | None = None


def fit(
    model,
    dataset,
    *,
    state: TrainState | None = None,
    identity: dict | None = None,
    progress: bool = True,
    **options,
) -> Result:
    """Trains a classifier.

    Args:
      model: a `flax.linen.Module` from images to logits, as `create_model` gives.
      dataset: from `load_dataset`.
      state: a state to go on from, as `result.state`; it stays as it is. `epochs` or `steps` count
        from there. Its own normalization holds.
      identity: what else the run's `config.json` says and a resumed run must have in common.
      progress: whether to print.
      options: the fields of `TrainingOptions`: `epochs`, `batch_size`, `optimizer`, `augment`,
        `workdir`, ….

    Returns: a `Result`. Ctrl-C or SIGTERM end the run after the step under way, with a checkpoint
    where there is a workdir.

    Raises: UserError for options that do not fit each other, the data or the devices; for a
    workdir that holds another run; and when the loss is no longer finite.

    >>> import convnets
    >>> model = convnets.create_model("linear", num_classes=10)
    >>> result = fit(model, convnets.load_dataset("digits"), steps=30, progress=False)
    >>> result.history[-1]["test_examples"], int(result.state.step)
    (360, 30)
    """
    given = create_options(**options)
    plan = make_plan(model, dataset, given, state)
    workdir = given.workdir
    if workdir is None:
        result = _run(plan, state or plan.create_state(), progress=progress)
        if result.signal is not None and progress:
            print("stopped early; without a workdir nothing was written")
        return result
    config = plan.config({"model": type(model).__name__, "data": dataset.name, **(identity or {})})
    if given.resume:
        require_same_run(journal.read_config(workdir), config)
    else:
        journal.open_run(workdir, config)
    with Checkpoints(f"{workdir}/checkpoints", keep=given.keep) as checkpoints:
        host, history = {}, []
        if given.resume:
            if checkpoints.steps():
                template = jax.eval_shape(plan.create_state)
                step, state, host = checkpoints.restore(template, set_aside=True)
                print(f"going on from the checkpoint of step {step} in {workdir}")
            history = journal.rewind(workdir, host.get("step", 0))
            journal.write_config(workdir, config)
        try:
            result = _run(
                plan,
                state or plan.create_state(),
                host,
                history,
                checkpoints,
                progress=progress,
            )
        except reporting.NotFinite as error:
            kept = f"step {checkpoints.steps()[-1]}" if checkpoints.steps() else "none"
            raise UserError(f"{error}; the last checkpoint kept: {kept}") from None
    if result.signal is not None and progress:
        print(f"stopped early after step {int(result.state.step)}; checkpoint in {workdir}/checkpoints")
    return result


def _run(plan, state, host=None, history=(), checkpoints=None, *, progress):
    """Trains to the end of the plan, or until a signal comes.

    Args:
      host: what the checkpoint says of the run so far, beside the state.
      history: the lines written so far.
    """
    host = {"window": {}, "best": None, "seconds": 0.0, **(host or {})}
    history = list(history)
    number, signal, saved = int(state.step), None, host.get("step")
    meter, best = reporting.Meter(host["window"]), host["best"]
    begin = time.monotonic() - host["seconds"]

    def write(line, *, aloud=progress):
        stamped = {"step": number, "epoch": plan.epoch(number), **line}
        history.append({**stamped, "seconds": time.monotonic() - begin})
        if checkpoints is not None:
            journal.append(plan.options.workdir, history[-1])
        if aloud:
            bar.clear()
            print(reporting.describe(history[-1]), flush=True)

    def save(validation=None):
        host = {"step": number, "window": meter.totals(), "best": best}
        host["seconds"] = time.monotonic() - begin
        checkpoints.save(number, parallel.gather(state), host, validation)
        return number

    with contextlib.ExitStack() as stack:
        received = stack.enter_context(interruption())
        bar = stack.enter_context(reporting.open_bar(plan.stop, number, shown=progress))
        batches = stack.enter_context(contextlib.closing(plan.batches(number)))
        target = min(number + 1, plan.stop)  # the first step alone, for it compiles
        while number < plan.stop and signal is None:
            start, since = number, time.monotonic()
            for number, state, measured in loop.train(plan.step, state, batches, stop=target):
                meter.add(number, measured)
                bar.update()
                signal = received()
                if signal is not None:
                    break
            meter.read()
            rate = (number - start) * plan.options.batch_size / (time.monotonic() - since)
            target, validation = plan.next_stop(number), None
            if plan.is_due(number, plan.options.log_every):
                line = {f"train_{name}": mean for name, mean in meter.take().items()}
                line["learning_rate"] = plan.rate(number, state)
                write({**line, "images_per_second": rate}, aloud=progress and bar.disable)
                reporting.show(bar, history[-1])
            if plan.is_due(number, plan.evaluate_every):
                write(plan.evaluate(state))
                validation = _validation(history[-1])
                if plan.observe is not None:
                    seen = plan.observe(state.opt_state, validation["validation_loss"])
                    state = state.replace(opt_state=seen)
            improved = validation is not None and (best is None or score(validation) > score(best))
            best = validation if improved else best
            if checkpoints is not None and (improved or plan.is_due(number, plan.checkpoint_every)):
                saved = save(validation)
        if signal is not None and checkpoints is not None and saved != number:
            save()
        if history and "test_loss" in history[-1] and number == int(host.get("step", -1)):
            say(reporting.describe(history[-1]))  # there was nothing left to do
        elif signal is None and "test_loss" not in (history or [{}])[-1]:
            write(plan.evaluate(state))  # a run of no steps
    return Result(parallel.gather(state), history, signal)


def _validation(line):
    """What an evaluation says of validation, None without such a split."""
    if "validation_loss" not in line:
        return None
    return {name: line[name] for name in ("validation_accuracy", "validation_loss")}


def predict(model, state: TrainState, images, *, batch_size: int = 256) -> np.ndarray:
    """Class probabilities of images.

    Args:
      model: the model that was trained.
      state: its state; moving averages are used where it keeps them, and its normalization.
      images: `[N, H, W, C]`, uint8, or floats in [0, 1].
      batch_size: images computed at a time.

    Returns: float32 `[N, K]`, on the host.

    Raises: ValueError for images of another rank, or none.
    """
    images = np.asarray(images)
    if images.ndim != 4 or not len(images):
        raise ValueError(f"expected images [N, H, W, C], came shape {images.shape}")

    @jax.jit
    def probabilities(variables, normalization, batch):
        logits = model.apply(variables, image.prepare(batch, normalization), train=False)
        return jax.nn.softmax(logits.astype(jnp.float32))

    variables = {name: tree for name, tree in state.variables().items() if tree}
    batch_size = min(batch_size, len(images))
    rows = []
    for start in range(0, len(images), batch_size):
        part = evaluation.pad_batch({"image": images[start : start + batch_size]}, batch_size)
        rows.append(probabilities(variables, state.normalization, part["image"]))
    return np.concatenate(rows)[: len(images)]
