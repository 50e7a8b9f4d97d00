"""How to train: the one list of options behind `fit`, the shell and `config.json`."""

import dataclasses
import math
import operator
import os
from typing import Literal, get_args, get_origin, get_type_hints

from ..errors import UserError, unknown
from .reading import READERS, satisfies
from .server_options import SERVER, ServerOptions

# What may differ when a run is resumed; every other setting must be as it was.
MAY_CHANGE = (
    *("epochs", "steps", "workers", "devices", "parallel", "model_parallel", "shard_optimizer"),
    *("lowering", "log_every", "checkpoint_every", "early_stopping", "keep", "data_dir"),
    *("staleness_bound", "ray_address"),
)
LATER = (  # which older configs lack: as by default
    *SERVER,
    "model_parallel",
    "shard_optimizer",
    "average_every",
    "compress_gradients",
)
NOT_SAVED = ("workdir", "resume")  # in a run's config: where it lies, and how it was called


@dataclasses.dataclass(frozen=True)
class TrainingOptions(ServerOptions):
    """How to train. Durations are in steps."""

    epochs: float | None = None
    """Passes over the training split. None: 30, unless steps are given."""
    steps: int | None = None
    """Number of steps, in place of epochs: not both."""
    batch_size: int | None = None
    """Examples in a step, over all devices. None: 64, or near it where the devices do not divide it
    or the data are fewer."""
    optimizer: str | None = None
    """sgd, momentum, nesterov, adagrad, rmsprop, adam, adamw, lars, lamb or muon. In Python an
    Optax transformation too. None: adam; on a parameter server adagrad."""
    learning_rate: float | None = None
    """Largest learning rate. None: as fits the optimizer."""
    schedule: str = "cosine"
    """constant, step (a tenth after half, a hundredth after three quarters), cosine, one_cycle (up
    from a 25th over 30 % of the steps, then down to nothing), or plateau (a tenth when the
    validation loss has not fallen for 5 evaluations). In Python a function too, from the number of
    updates to the learning rate itself."""
    warmup: int = 0
    """Steps of warm-up before the schedule."""
    warmup_kind: Literal["gradual", "constant"] = "gradual"
    """gradual, a linear rise to the learning rate, or constant, at warmup_rate until the
    schedule."""
    warmup_rate: float | None = None
    """Learning rate that a gradual warm-up begins with, or a constant one has all along. None:
    the learning rate over the steps of warm-up, gradual only."""
    weight_decay: float = 0.0
    """Weight decay, on kernels only."""
    clip: float | None = None
    """Largest global norm of the gradient."""
    clip_value: float | None = None
    """Largest absolute value of an element of the gradient."""
    clip_adaptive: float | None = None
    """Largest norm of each unit's gradient, as a share of the norm of its weights."""
    layer_decay: float | None = None
    """Factor of the learning rate from a layer to the one before it; the head has the whole rate. A
    layer is a module right below the backbone, such as a block; norms go with what is before."""
    rate_scales: tuple[tuple[str, float], ...] = ()
    """Factors of the learning rate by patterns of paths, as backbone/* 0.1; the first match holds.
    In Python a dict too."""
    freeze: tuple[str, ...] = ()
    """Patterns of the paths of parameters that stay as they are, as backbone/*. The averages of
    batch norm still follow the images; --freeze-batch-norm keeps those."""
    sam: float | None = None
    """Radius of sharpness-aware minimization, such as 0.05; a step takes two gradients' time."""
    ema: float | None = None
    """Decay a step of a moving average of parameters and batch statistics, which is then what is
    evaluated."""
    accumulate: int = 1
    """Batches whose gradients are averaged for one update; the steps of a run are rounded up to a
    multiple."""
    augment: tuple[str, ...] = ("translate",)
    """Augmentations in training, in order: flip, flip_vertical, crop, translate, rotate, affine,
    elastic, elastic_affine (both at once), color_jitter, pca_noise, erase, random_augment; before
    them random_resized_crop, of the image as it is decoded; or the word none. In Python a function
    `(key, image) -> image` too."""
    mix: str | None = None
    """Mixes each example with another of its batch, and their targets: mixup or cutmix. In Python a
    function `(key, image, partner) -> (image, share of the own label)` too."""
    batch_norm_group: int | None = None
    """Examples in a group of which batch norm takes the statistics, as on one worker; it divides
    the batch. None: as the model has it, else the whole batch."""
    freeze_batch_norm: bool = False
    """Batch norm uses its running statistics in training too, and leaves them, for fine-tuning from
    weights; dropout stays on."""
    recompute_statistics: int | None = None
    """Training batches over which batch norm's statistics are computed exactly before each
    evaluation, at most one pass over the split. A checkpoint between two evaluations, or of a
    signal, has averages that run on from the last exact ones, and is evaluated with those. None:
    they stay running averages."""
    label_smoothing: float = 0.0
    """Share of each target that is spread evenly over the classes."""
    loss: str = "cross_entropy"
    """cross_entropy or squared_error."""
    seed: int = 0
    """Of the initialization, the order of the data, augmentation and dropout."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """What the network computes in; parameters, statistics and losses stay float32."""
    workers: int = 0
    """Processes that decode images ahead, where they are not decoded once for all; 0: threads. With
    a parameter server those that compute gradients; 0: two."""
    devices: int | None = None
    """Number of devices. None: all."""
    parallel: Literal["jit", "shard_map", "pmap", "parameter-server"] = "jit"
    """How the step is compiled for many devices, with the same numbers each; or parameter-server,
    asynchronous workers, for which a step is a batch of any worker."""
    model_parallel: int = 1
    """Devices over which each copy of the model is spread: large dense and locally connected
    layers by features, the maps of convolutions by rows. Under jit; the numbers stay the same."""
    shard_optimizer: bool = False
    """Each device keeps a part only of the optimizer's state. Under jit; the numbers stay the
    same."""
    average_every: int = 1
    """Steps that each device makes alone, on its share of the batches, before the states of all are
    averaged: local SGD, by shard_map or pmap. The steps of the run, and those between evaluations,
    checkpoints and lines, are rounded up to multiples. 1: gradients are averaged, at every step."""
    compress_gradients: str | None = None
    """bfloat16, in which gradients then travel between devices, by shard_map or pmap. None: as they
    are."""
    lowering: str | None = None
    """Of convolutions on the CPU: onednn, plain or xla. None: onednn where it is found, else plain;
    on other platforms always xla."""
    steps_per_call: int | None = None
    """Steps in one dispatch to the devices. None: 1 on the CPU, 10 on an accelerator, for which the
    host is else too slow."""
    workdir: str | None = None
    """Folder for config, metrics and checkpoints. None: nothing is written."""
    resume: bool = False
    """Go on with the run in workdir, from its last whole checkpoint. These may differ from the
    run's own settings: epochs, steps, workers, devices, parallel, model_parallel, shard_optimizer,
    lowering, log_every, checkpoint_every, early_stopping, keep, data_dir, staleness_bound,
    ray_address; of a parameter server's run, workers and parallel may not."""
    evaluate_every: int | None = None
    """Steps between evaluations. None: an epoch."""
    early_stopping: int | None = None
    """Evaluations in a row without a new best on validation, after which the run ends and its last
    line says so. None: it goes on to its last step."""
    checkpoint_every: int | None = None
    """Steps between checkpoints. None: one with each evaluation."""
    keep: int = 3
    """How many of the last checkpoints to keep, beside the best on validation."""
    log_every: int = 100
    """Steps between lines about the training loss."""


def create_options(**given) -> TrainingOptions:
    """Options by name.

    Raises: UserError for an unknown name, with the nearest one, or a value out of its range.

    >>> create_options(batch_size=64).batch_size
    64
    """
    known = [field.name for field in dataclasses.fields(TrainingOptions)]
    for name in given:
        if name not in known:
            raise unknown("option", name, known)
    augment = given.get("augment")
    if "augment" in given and not callable(augment):  # as it is compared and written down
        augment = (augment,) if isinstance(augment, str) else augment or ()
        if not isinstance(augment, list | tuple):
            raise UserError(f"augment takes names or a function, not {augment!r}")
        given["augment"] = tuple(augment)
    given |= {name: read(given[name]) for name, read in READERS.items() if name in given}
    options = TrainingOptions(**given)
    require_ranges(options)
    return options


def read_options(config: dict) -> TrainingOptions:
    """The options that a run's `config.json` says.

    Raises: UserError for one that is missing or out of its range.
    """
    names = {field.name for field in dataclasses.fields(TrainingOptions)}.difference(NOT_SAVED)
    missing = sorted(names.difference(config, LATER))
    if missing:
        raise UserError(f"the run's config does not say its {', '.join(missing)}")
    return create_options(**{name: config[name] for name in names & config.keys()})


def require_ranges(options: TrainingOptions) -> None:
    """Refuses values out of their range, and options that exclude each other, as UserError."""

    def require(names, holds, what):
        for name in names.split():
            value = getattr(options, name)
            if value is not None and not satisfies(value, holds):
                raise UserError(f"{name} must be {what}, not {value!r}")

    counts = "batch_size evaluate_every checkpoint_every accumulate keep log_every devices "
    counts += "model_parallel average_every steps_per_call batch_norm_group recompute_statistics "
    counts += "early_stopping shards push_every fetch_every"
    require(counts, lambda x: operator.index(x) >= 1, "a whole number, at least 1")
    require("seed", lambda x: 0 <= operator.index(x) < 2**32, "from 0 to 2**32 - 1")
    require("steps", lambda x: 0 <= operator.index(x) < 2**31, "from 0 to 2**31 - 1")
    durations = "warmup workers warm_start staleness_bound"
    require(durations, lambda x: operator.index(x) >= 0, "a whole number, not negative")
    require("weight_decay", lambda x: 0 <= x < math.inf, "not negative and finite")
    require("epochs", lambda x: 0 <= x < math.inf, "not negative and finite")
    require("ema label_smoothing", lambda x: 0 <= x < 1, "in [0, 1)")
    positive = "learning_rate clip clip_value clip_adaptive sam warmup_rate"
    require(positive, lambda x: 0 < x < math.inf, "positive and finite")
    require("layer_decay", lambda x: 0 < x <= 1, "in (0, 1]")
    for field in dataclasses.fields(TrainingOptions):
        if field.default is not None and getattr(options, field.name) is None:
            raise UserError(f"{field.name} must not be None")
    if not isinstance(options.optimizer, str | None):
        _require_transformation(options.optimizer)
    for name, kind in get_type_hints(TrainingOptions).items():
        if get_origin(kind) is Literal and getattr(options, name) not in get_args(kind):
            raise unknown(name, getattr(options, name), get_args(kind))
    if options.epochs is not None and options.steps is not None:
        raise UserError(f"give epochs or steps, not both: {options.epochs} and {options.steps}")
    if options.parallel != "jit" and (options.model_parallel > 1 or options.shard_optimizer):
        raise UserError(
            f"{options.parallel} has the whole state on every device: for model_parallel and "
            "shard_optimizer take parallel jit"
        )
    if callable(options.schedule):
        _require_defaults(options, "learning_rate warmup warmup_kind warmup_rate")
    if options.workdir is not None:
        _require_path(options.workdir)
    if options.resume and options.workdir is None:
        raise UserError("resume needs the workdir of the run to go on with")


def _require_defaults(options, names):
    usual = TrainingOptions()
    given = [name for name in names.split() if getattr(options, name) != getattr(usual, name)]
    if given:
        raise UserError(f"a schedule of your own gives the rate: leave {', '.join(given)} out")


def _require_transformation(optimizer):
    import optax  # seconds, which reading the words of a shell does without

    if not isinstance(optimizer, optax.GradientTransformation):
        raise UserError(f"the optimizer is a name or an Optax transformation, not {optimizer!r}")


def _require_path(workdir):
    if not isinstance(workdir, str | os.PathLike) or not str(workdir):
        raise UserError(f"the workdir is the path of a folder, not {workdir!r}")
    try:
        str(workdir).encode()
    except UnicodeEncodeError:  # where Orbax could not write
        raise UserError(f"the workdir {str(workdir)!a} is not a name in UTF-8") from None
