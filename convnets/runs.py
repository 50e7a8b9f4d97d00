"""A run on disk, opened again: its settings, model and state."""

import sys
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from . import data, parallel
from .errors import UserError
from .layers import group_batch_norm
from .models import create_model
from .ops.image import Normalization
from .tasks import classification_loss
from .training import evaluate, journal, make_eval_step
from .training.checkpoints import Checkpoints
from .training.options import read_options
from .training.state import TrainState


class Run(NamedTuple):
    """What `load_run` returns: `config.json`, the model, and the state of one checkpoint."""

    config: dict
    model: nn.Module
    state: TrainState

    def __repr__(self):
        return f"Run({self.config['model']} on {self.config['data']}, {self.state!r})"


def load_run(workdir, checkpoint: str | int = "last", *, model: nn.Module | None = None) -> Run:
    """Opens a run for evaluation and prediction.

    Args:
      workdir: the folder of the run.
      checkpoint: `last`, `best` on validation, or a step.
      model: the run's model, where it has no name in the registry.

    Returns: a `Run`. Its state has no optimizer state; arrays are on the host.

    Raises: UserError for a folder without a run, a checkpoint that is not there or damaged, and a
    model of other parameters.
    """
    parallel.cache_compilations()
    config = journal.read_config(workdir)
    options = read_options(config)
    dataset = config["dataset"]
    if model is None:
        try:
            model = create_model(config["model"], num_classes=len(dataset["class_names"]))
        except UserError as error:
            raise UserError(
                f"the run in {workdir} was started from Python with a {config['model']} of its "
                "own; open it there, with load_run(workdir, model=...)"
            ) from error
    model = with_precision(model, options.precision)
    template = jax.eval_shape(
        partial(
            _empty_state,
            model,
            tuple(dataset["image_shape"]),
            options.ema is not None,
            Normalization(**dataset["normalization"]),
        )
    )
    with Checkpoints(f"{workdir}/checkpoints", read_only=True) as checkpoints:
        say = partial(print, file=sys.stderr)
        _, state, _ = checkpoints.restore(template, checkpoint, say=say, partial=True)
    return Run(config, model, state)


def load_run_data(run: Run, name: str | None = None, data_dir=None) -> data.Dataset:
    """The data of a run, or others of images as large as its.

    Args:
      run: from `load_run`.
      name: of other data, as for `load_dataset`; None for the run's own.
      data_dir: where TensorFlow Datasets' sets are; None for where the run found its own.

    Raises: UserError for data that cannot be read.
    """
    config = run.config
    try:
        return data.load_dataset(
            name or config["data"],
            data_dir=data_dir or config.get("data_dir"),
            validation=config.get("validation", 0.0) if name is None else 0.0,
            seed=config["seed"],
            image_size=tuple(config["dataset"]["image_shape"][:2]),
        )
    except UserError as error:
        if name is not None:
            raise
        raise UserError(f"{error} (the run's own data; --data names others)") from None


def evaluate_run(
    run: Run, dataset: data.Dataset, *, batch_size: int = 256, views=None, objective=None
) -> dict:
    """Every metric of a run's state on the splits `validation`, where there is one, and `test`.

    Args:
      run: from `load_run`.
      dataset: the run's own, or another of as many classes; the run's normalization holds.
      batch_size: examples computed at a time; it does not change what is returned.
      views: `f(images) -> [V, B, H, W, C]`, as `ops.image.flip_views`, over which probabilities are
        averaged; None for the images as they are.
      objective: what the run was given in the place of classification, as to `fit`.

    Returns: `step`, and `test_loss`, `test_accuracy`, `test_examples`, …. Classes of other names
    are compared by their numbers, and standard error says so. Batch statistics are those of the
    checkpoint: with `recompute_statistics` the exact ones in those of the run's own evaluations,
    else running averages.

    Raises: UserError for another number of classes or images of another shape, for a run with an
    objective that is not given, and one that is given besides views.
    """
    saved = run.config["dataset"]
    expected = (len(saved["class_names"]), *saved["image_shape"])
    found = (dataset.num_classes, *dataset.image_shape)
    if found != expected:
        raise UserError(
            "the run is for {} classes and images of {}x{}x{}; ".format(*expected)
            + dataset.name
            + " has {} and {}x{}x{}".format(*found)
        )
    if list(dataset.class_names) != saved["class_names"]:
        first = [", ".join(names[:3]) for names in (saved["class_names"], dataset.class_names)]
        print(
            f"the classes are {first[0]}, … in the run and {first[1]}, … in {dataset.name}: only "
            "their numbers are compared",
            file=sys.stderr,
        )
    loss_fn = _loss_of_run(run, views, objective)
    eval_step = parallel.compile(make_eval_step(loss_fn), donate=False)
    measured = {"step": int(run.state.step)}
    return measured | evaluate_splits(eval_step, run.state, dataset, batch_size)


def name_objective(objective) -> str:
    """What `config.json` calls an objective: the name of its function, of a partial's too."""
    named = getattr(objective, "func", objective)
    return getattr(named, "__name__", type(named).__name__)


def _loss_of_run(run, views, objective):
    """The loss function that a run is evaluated by."""
    minimized = run.config.get("objective")
    if objective is None and minimized is not None:
        raise UserError(
            f"the run minimized {minimized}: evaluate it with that, evaluate_run(run, dataset, "
            "objective=...)"
        )
    if objective is None:
        return classification_loss(
            run.model,
            normalization=run.state.normalization,
            loss=run.config["loss"],
            views=views,
        )
    if views is not None:
        raise UserError("an objective of your own does not hear of views: build them in")
    return objective(run.model, normalization=run.state.normalization)


def evaluate_splits(eval_step, state: TrainState, dataset: data.Dataset, batch_size: int) -> dict:
    """The metrics of every split that is not for training, named `SPLIT_METRIC`; the same on every
    process, of which each reads a share."""
    measured = {}
    index, count = parallel.process_share(eval_step.mesh)
    batch_size += -batch_size % count
    for split, source in dataset.splits.items():
        if split != "train":
            batches = data.evaluation_batches(
                source, batch_size, process_index=index, process_count=count
            )
            means = evaluate(eval_step, state, batches)
            measured |= {f"{split}_{name}": value for name, value in means.items()}
    return measured


def with_precision(model: nn.Module, precision: str) -> nn.Module:
    """The model that computes in a precision. Raises UserError for one without a `dtype` to set."""
    if precision == "float32":
        return model
    if not hasattr(model, "dtype"):
        raise UserError(f"{type(model).__name__} has no dtype to set to {precision}")
    return model.clone(dtype=jnp.dtype(precision))


def with_batch_norm_groups(model: nn.Module, group_size: int | None) -> nn.Module:
    """The model whose batch norms take their statistics over groups of so many examples; itself
    with None. Raises UserError for one without a `norm` that makes batch norms."""
    if group_size is None:
        return model
    backbone = getattr(model, "backbone", None)
    holder = model if backbone is None else backbone
    try:
        holder = holder.clone(norm=group_batch_norm(getattr(holder, "norm", None), group_size))
    except TypeError:
        raise UserError(
            f"{type(holder).__name__} has no field norm that makes batch norms, so there are no "
            "groups to set (batch_norm_group)"
        ) from None
    return holder if backbone is None else model.clone(backbone=holder)


def _empty_state(model, image_shape, ema, normalization):
    key = jax.random.key(0)
    variables = model.init(key, jnp.zeros((1, *image_shape)), train=False)
    return TrainState.create(variables, optax.identity(), key, ema=ema, normalization=normalization)
