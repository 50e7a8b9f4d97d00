"""What a model, a data set and options must have for each other; the rest is a UserError."""

from collections.abc import Mapping
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from . import data
from .errors import UserError, first_line, unknown
from .layers import BatchNorm
from .parallel.partition import by_path
from .training.options import TrainingOptions
from .training.server_options import SERVER, uses_server
from .weights.importing import require_same_names

SHOWN = 5  # variables in an error
COMPRESSIONS = ("bfloat16",)


def require_kinds(model, dataset) -> None:
    """Refuses what is no model, and what is no data set."""
    if not isinstance(model, nn.Module):
        raise UserError(
            f"expected a flax.linen.Module, came {type(model).__name__}; create_model makes one"
        )
    if not isinstance(dataset, data.Dataset):
        raise UserError(
            f"expected a Dataset, came {type(dataset).__name__}; load_dataset reads one, "
            "dataset_from_arrays makes one"
        )


def require_outputs(model, dataset, objective=None) -> dict:
    """Refuses a model of other classes than the data's, unless it has an objective of its own;
    returns the shapes of its parameters."""
    images = jax.ShapeDtypeStruct((2, *dataset.image_shape), jnp.float32)
    init = partial(model.init_with_output, train=False)
    logits, variables = jax.eval_shape(init, jax.random.key(0), images)
    if objective is not None:
        return variables.get("params", {})
    if not hasattr(logits, "shape"):
        raise UserError(
            f"{type(model).__name__} makes no logits: give fit an objective, such as "
            "convnets.unsupervised.reconstruction_loss"
        )
    if logits.shape != (2, dataset.num_classes):
        raise UserError(
            f"{dataset.name} has {dataset.num_classes} classes; the model's output for 2 images "
            f"has the shape {logits.shape}"
        )
    labels = dataset.train.labels
    if labels is not None and len(labels) and labels.min() < 0:
        raise UserError(
            f"{(labels < 0).sum()} of {len(labels)} examples to train on have no label: give fit "
            "an objective, such as convnets.semi_supervised_loss"
        )
    return variables.get("params", {})


def read_variables(shapes, variables) -> dict:
    """Given variables as arrays of their own, once they are known to be those of a model.

    Args:
      shapes: the model's variables, as `jax.eval_shape` of its `init` gives them.
      variables: `{"params": …, "batch_stats": …}`, floats of any precision.

    Raises: UserError for what is missing, left over, or of another shape, by its path.
    """
    title = "the given variables"
    if not isinstance(variables, Mapping):
        raise UserError(
            f"{title} must be {{'params': …, 'batch_stats': …}}, as state.variables() or "
            f"load_pretrained gives, not {type(variables).__name__}"
        )
    shapes = {name: shapes[name] for name in ("params", "batch_stats") if name in shapes}
    wanted = by_path(shapes)
    given = {path: np.asarray(x) for path, x in by_path(variables).items()}
    require_same_names(title, wanted, given)
    wrong = [
        f"{path} {leaf.shape} (came {given[path].dtype} {given[path].shape})"
        for path, leaf in wanted.items()
        if given[path].shape != leaf.shape or not jnp.issubdtype(given[path].dtype, jnp.floating)
    ]
    if wrong:
        more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise UserError(
            f"{title}: expected floats {', '.join(wrong[:SHOWN])}{more}; for other classes see "
            "convnets.reset_head"
        )
    arrays = [jnp.array(given[path], leaf.dtype) for path, leaf in wanted.items()]
    return jax.tree.unflatten(jax.tree.structure(shapes), arrays)


def require_batch_norm(model, dataset, options: TrainingOptions, *, fresh: bool = False) -> None:
    """Refuses options on batch norm that the model, the batch or each other leave without use; and
    frozen statistics in a fresh network, where they are mean 0 and variance 1, of no image."""
    given = {
        "batch_norm_group": options.batch_norm_group,
        "freeze_batch_norm": options.freeze_batch_norm or None,
        "recompute_statistics": options.recompute_statistics,
    }
    given = [name for name, value in given.items() if value is not None]
    if given and not _has_batch_norm(model, dataset):
        raise UserError(
            f"{given[0]} is for models with convnets.layers.BatchNorm, and this one has none"
        )
    if options.freeze_batch_norm and len(given) > 1:
        others = " and ".join(name for name in given if name != "freeze_batch_norm")
        raise UserError(f"frozen batch norm keeps the statistics it has: leave out {others}")
    if options.freeze_batch_norm and fresh:
        raise UserError(
            "frozen batch norm keeps the statistics it has, and a fresh network has learned none: "
            "begin from weights (variables or a state in Python, --weights in the shell)"
        )
    if options.batch_size % (options.batch_norm_group or 1):
        raise UserError(
            f"a batch of {options.batch_size} examples does not divide into groups of "
            f"{options.batch_norm_group}"
        )


def _has_batch_norm(model, dataset):
    """Whether the model calls a batch norm of ours, which alone hears of these options."""
    found = []

    def note(call, args, kwargs, context):
        found.append(isinstance(context.module, BatchNorm))
        return call(*args, **kwargs)

    images = jax.ShapeDtypeStruct((2, *dataset.image_shape), jnp.float32)
    with nn.intercept_methods(note):
        jax.eval_shape(partial(model.init, train=False), jax.random.key(0), images)
    return any(found)


def require_strategy(options: TrainingOptions, start: int, devices: int) -> None:
    """Refuses local steps and compressed gradients where they cannot be, and groups of batch norm
    that no device alone has."""
    every, compression = options.average_every, options.compress_gradients
    if compression is not None and compression not in COMPRESSIONS:
        raise unknown("compression of gradients", compression, COMPRESSIONS)
    asked = "average_every" if every > 1 else "compress_gradients" if compression else None
    if asked and options.parallel == "jit":
        raise UserError(
            f"{asked} is for shard_map and pmap, where the step itself averages over devices, not "
            "for jit, where the compiler does: take parallel shard_map"
        )
    if every == 1:
        return
    if compression is not None:
        raise UserError(
            "compress_gradients is for gradients that are averaged at every step; with "
            f"average_every {every} none is sent"
        )
    if options.steps_per_call not in (None, every):
        raise UserError(
            f"with average_every {every} a call runs {every} steps, not {options.steps_per_call}: "
            "leave steps_per_call out"
        )
    if start % every:
        raise UserError(
            f"the given state is at step {start}, between two averages of every {every} steps"
        )
    share = options.batch_size // devices
    if share % (options.batch_norm_group or 1):
        raise UserError(
            f"with average_every {every} each device has the batch norm of its own {share} "
            f"examples, which do not divide into groups of {options.batch_norm_group}"
        )


def require_validation(dataset, options: TrainingOptions, loss_fn) -> None:
    """Refuses what is decided on a validation split where there is none, and by a loss that does
    not tell which of two states is the better."""
    needs = {"a plateau is seen": options.schedule == "plateau"}
    needs |= {"early stopping is decided": options.early_stopping is not None}
    for what, asked in needs.items():
        if asked and dataset.validation is None:
            raise UserError(f"{what} on a validation split: set a share apart, as validation 0.1")
        if asked and not ranks(loss_fn):
            raise UserError(
                f"{what} by the loss on validation, and that of this objective does not tell which "
                "of two states is the better: give a number of steps or epochs"
            )


def ranks(loss_fn) -> bool:
    """Whether the lesser loss is the better state's, as of every loss that does not say otherwise.

    >>> ranks(lambda params, batch_stats, batch, key: None)
    True
    """
    return getattr(loss_fn, "ranks", True)


# What a parameter server does not do, and what to take in its place.
NOT_ASYNCHRONOUS = {
    "accumulate": "gradients are accumulated by push_every",
    "devices": "each worker computes on one device",
    "steps_per_call": "each worker computes one step at a time",
    "ema": "no process sees all parameters after each update",
    "sam": "workers compute one gradient a step",
    "freeze": "shards see a part of the parameters each",
    "rate_scales": "shards see a part of the parameters each",
    "layer_decay": "shards see a part of the parameters each",
}

ONLY = {"devices": 1, "steps_per_call": 1}  # what may be said all the same, and is in a config


def require_shards(options: TrainingOptions, params) -> None:
    """Refuses more shards of a parameter server than the model has arrays of parameters."""
    most = len(jax.tree.leaves(params))
    if uses_server(options) and options.shards > most:
        raise UserError(
            f"{most} arrays of parameters do not divide into {options.shards} shards: take at most "
            f"{most}"
        )


def require_update(optimizer, params) -> None:
    """Refuses patterns of the parameters' names that match none, and an optimizer whose update
    needs more than gradients, its state and parameters."""
    state = jax.eval_shape(optimizer.init, params)
    try:
        jax.eval_shape(optimizer.update, params, state, params)
    except TypeError as error:
        raise UserError(
            "a step gives an optimizer gradients and parameters, no loss to search along a line "
            f"(convnets.minimize_lbfgs does that on small problems): {first_line(error)}"
        ) from None


def require_asynchronous(options: TrainingOptions) -> None:
    """Refuses what a parameter server does not do, and its own options elsewhere."""
    usual = TrainingOptions()
    given = [
        name
        for name in (*SERVER, *NOT_ASYNCHRONOUS)
        if getattr(options, name) not in (getattr(usual, name), ONLY.get(name))
    ]
    if not uses_server(options):
        of_server = [name for name in given if name in SERVER]
        if of_server:
            raise UserError(
                f"{', '.join(of_server)}: of a parameter server alone, as parallel parameter-server"
            )
        return
    for name in given:
        if name in NOT_ASYNCHRONOUS:
            raise UserError(f"a parameter server takes no {name}: {NOT_ASYNCHRONOUS[name]}")
    if options.schedule == "plateau":
        raise UserError("a parameter server takes no plateau: its shards see no validation loss")
    if options.ray_address is not None and options.workdir is None:
        raise UserError(
            "with a Ray cluster give a workdir that all its machines see: a shard that dies is "
            "restored from there"
        )
