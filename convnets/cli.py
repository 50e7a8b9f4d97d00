"""The command `convnets`, with what trains and runs a model; `inspection` has what looks at one.

With `parsing` these are the only files that read strings from a shell.
"""

import dataclasses
import json
import os
import signal
import sys
from typing import Annotated

import tyro
from tyro import conf

from . import consultation, inspection
from .errors import LostProcessError, UserError, unknown
from .launching import make_launch
from .parsing import (
    AS_THE_CLUSTER,
    OPTIONAL,
    Folder,
    OptionalFile,
    OptionalFolder,
    ProcessOptions,
    RunOptions,
    connect,
    load_named,
    load_weights,
    read_checkpoint,
    split_command,
    train_defaults,
)
from .training.options import TrainingOptions, require_ranges


def train(run: RunOptions, training: TrainingOptions, processes: ProcessOptions) -> int:
    """Train a model."""
    from . import parallel

    require_ranges(training)
    connect(processes)
    with parallel.ending_together():
        return _train_together(run, training)


def _train_together(run, training):
    from . import fitting

    model, dataset = load_named(run, training.seed)
    variables = None
    if not training.resume:  # whose checkpoint has them
        variables, dataset = load_weights(run, dataset)
    data_dir = run.data_dir or os.environ.get("TFDS_DATA_DIR")
    identity = dataclasses.asdict(run) | {
        "data": dataset.name,  # with the whole of its path
        "data_dir": data_dir and os.path.abspath(data_dir),
        "weights": run.weights and os.path.abspath(run.weights),
    }
    options = dataclasses.asdict(training)
    result = fitting.fit(model, dataset, variables=variables, identity=identity, **options)
    return 0 if result.signal is None else 128 + result.signal


def find_rate(
    run: RunOptions,
    training: TrainingOptions,
    smallest: float = 1e-7,
    largest: float = 10.0,
    picture: OptionalFile = None,
) -> int:
    """Find a learning rate: train a little at ever larger ones, and see where the loss falls.

    Args:
      smallest: Rate of the first step.
      largest: Rate of the last step, of which there are 100 where --steps says no other.
      picture: File for the picture of losses and rates, as .png or .pdf.
    """
    from . import rates
    from .benchmark import require_writable

    require_ranges(training)
    usual = TrainingOptions()
    names = [field.name for field in dataclasses.fields(training)]
    given = {name: getattr(training, name) for name in names}
    given = {name: value for name, value in given.items() if value != getattr(usual, name)}
    rates.require_options(given)
    if picture is not None:
        rates.require_drawable(picture)
        require_writable(picture)
    model, dataset = load_named(run, training.seed)
    given["variables"], dataset = load_weights(run, dataset)
    finding = rates.find_learning_rate(model, dataset, smallest=smallest, largest=largest, **given)
    if picture is not None:
        finding.draw().savefig(picture)
    print(finding.describe())
    return 0


def evaluate(
    workdir: Folder,
    checkpoint: str = "last",
    data: str | None = None,
    data_dir: OptionalFolder = None,
    batch_size: int = 256,
    views: str | None = None,
) -> int:
    """Evaluate a run's checkpoint on every test example, once.

    Args:
      workdir: Folder of the run.
      checkpoint: last, best (on validation), or a step.
      data: Another data set, of as many classes. None: the run's own.
      data_dir: Where TensorFlow Datasets' sets are. None: where the run found its own.
      batch_size: Examples computed at a time.
      views: Probabilities are averages over each image and, flip, its mirror image, or, shift, the
        image moved by a pixel to each of four sides. None: of the image alone.
    """
    from . import runs
    from .ops.image import VIEWS

    if batch_size < 1:
        raise UserError(f"the batch size is at least 1, not {batch_size}")
    if views is not None and views not in VIEWS:
        raise unknown("views", views, VIEWS)
    run = runs.load_run(workdir, read_checkpoint(checkpoint))
    dataset = runs.load_run_data(run, data, data_dir)
    measured = runs.evaluate_run(run, dataset, batch_size=batch_size, views=VIEWS.get(views))
    print(json.dumps({"data": dataset.name, **measured}))
    return 0


def predict(
    images: conf.Positional[Annotated[tuple[str, ...], conf.arg(metavar="IMAGE [IMAGE ...]")]],
    workdir: Folder,
    checkpoint: str = "last",
) -> int:
    """Predict the classes of image files: a JSON line each, the five best names and probabilities.

    Args:
      images: Image files; they are scaled and cropped to the size, and brought to the channels,
        that the run was trained on. Digits are light on dark, as in MNIST.
      workdir: Folder of the run.
      checkpoint: last, best (on validation), or a step.
    """
    import numpy as np

    from . import prediction, runs
    from .data import read_image

    if not images:
        raise UserError("name at least one image file")
    run = runs.load_run(workdir, read_checkpoint(checkpoint))
    dataset = run.config["dataset"]
    names = dataset["class_names"]
    refused = []
    for start in range(0, len(images), 256):
        readable = []
        for path in images[start : start + 256]:
            try:
                readable.append((path, read_image(path, tuple(dataset["image_shape"]))))
            except UserError as error:
                refused.append(path)
                print(f"convnets: {error}", file=sys.stderr)
        if not readable:
            continue
        paths, batch = zip(*readable)
        for path, row in zip(paths, prediction.predict(run.model, run.state, np.stack(batch))):
            best = np.argsort(-row, kind="stable")[:5]
            line = {
                "path": path,
                "names": [names[index] for index in best],
                "probabilities": [float(row[index]) for index in best],
            }
            print(json.dumps(line))
    return 2 if refused else 0


def prepare(
    name: conf.Positional[Annotated[str, conf.arg(metavar="NAME")]],
    source: Annotated[OptionalFolder, conf.arg(name="from")] = None,
    data_dir: OptionalFolder = None,
) -> int:
    """Prepare a TensorFlow Datasets set, as array_record; the common ones without TensorFlow.

    Args:
      name: mnist, fashion_mnist, kmnist, cifar10, cifar100, or any other set of TFDS.
      source: Folder with the set's archives, where they are there already.
      data_dir: Where to prepare it. None: TFDS_DATA_DIR, else TFDS's own.
    """
    from .data import prepare_dataset

    signal.signal(signal.SIGINT, signal.default_int_handler)  # unfinished files are cleared away
    print(prepare_dataset(name, source_dir=source, data_dir=data_dir))
    return 0


def main(args: list[str] | None = None) -> int:
    """Runs a command and returns its exit code: 2 for what a user can mend, said in one message."""
    args = sys.argv[1:] if args is None else args
    args, launched = split_command(args)
    try:
        with OPTIONAL:
            return _commands(*train_defaults(args), launched).cli(
                prog="convnets",
                args=args,
                description="Convolutional networks for JAX.",
                config=(conf.FlagCreatePairsOff, conf.OmitArgPrefixes),
            )
    except UserError as error:
        print(f"convnets: {error}", file=sys.stderr)
        return 1 if isinstance(error, LostProcessError) else 2
    except KeyboardInterrupt:
        print("convnets: interrupted; nothing more was written", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _commands(run_defaults: RunOptions, training_defaults: TrainingOptions, launched: list[str]):
    app, data, weights = (tyro.extras.SubcommandApp() for _ in range(3))

    @app.command(name="train")
    def _train(
        run: RunOptions = run_defaults,
        training: TrainingOptions = training_defaults,
        processes: ProcessOptions = AS_THE_CLUSTER,
    ) -> int:
        """Train a model; with no option, LeNet-5 on the embedded digits, in seconds.

        With --workdir the run is written down there and can be evaluated, used to predict, and
        resumed: `convnets train --resume --workdir DIR` needs nothing else. Ctrl-C and SIGTERM save
        a checkpoint and end with exit code 130 and 143.
        """
        return train(run, training, processes)

    looking = (consultation.doctor, inspection.models, inspection.summary, inspection.benchmark)
    for command in (make_launch(launched), find_rate, evaluate, predict, *looking):
        app.command(command)
    data.command(prepare)
    weights.command(inspection.check)
    app.command(weights, name="weights", help="Check weights of other libraries.")
    app.command(data, name="data", help="Prepare data sets.")
    return app
