"""How the command line reads its words: the options of a run, checkpoints, shapes of images."""

import argparse
import contextlib
import dataclasses
from functools import partial
from typing import Annotated, get_args

from tyro import conf, constructors

from .errors import UserError
from .training import journal
from .training.options import TrainingOptions, read_options

Folder = Annotated[str, conf.arg(metavar="DIR")]
OptionalFolder = Annotated[str | None, conf.arg(metavar="DIR")]
OptionalFile = Annotated[str | None, conf.arg(metavar="FILE")]
OptionalImage = Annotated[str | None, conf.arg(metavar="HxWxC")]


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """What to train, and on what."""

    model: str = "lenet5"
    """Name of a model; `convnets models` lists them."""
    data: str = "digits"
    """digits, folder:PATH, npz:PATH, idx:PATH, or the name of a TensorFlow Datasets set."""
    validation: float = 0.0
    """Share of the training split set apart for validation."""
    data_dir: OptionalFolder = None
    """Where TensorFlow Datasets' sets are. None: TFDS_DATA_DIR, else TFDS's own."""
    image_size: int | None = None
    """Side that images are brought to. None: their own, where all have one."""
    weights: OptionalFile = None
    """File of the model's weights to begin from, as safetensors or by PyTorch; where the data have
    other classes the head is a fresh one. Images are normalized as these weights want it. None:
    random ones."""
    weights_source: str = "timm"
    """Library whose names the file of weights has, timm or torchvision."""


@dataclasses.dataclass(frozen=True)
class ProcessOptions:
    """The processes of a run, of one host or of many."""

    coordinator: Annotated[str | None, conf.arg(metavar="HOST:PORT")] = None
    """Where process 0 waits for the others. None: as the cluster says (Slurm, Open MPI, TPU,
    Kubernetes); without one a run is a single process."""
    num_processes: int | None = None
    """How many processes the run has. None: as the cluster says."""
    process_id: int | None = None
    """Which of them this one is, from 0 on. None: as the cluster says."""
    connect_timeout: float = 120.0
    """Seconds to wait for processes that have not come."""


AS_THE_CLUSTER = ProcessOptions()

OPTIONAL = constructors.ConstructorRegistry()


@OPTIONAL.primitive_rule
def _optional(info):
    """An option of one type or None is shown, and its errors are told, as of that type."""
    kinds = [kind for kind in get_args(info.type) if kind is not type(None)]
    if len(kinds) != 1 or kinds[0] | None != info.type or kinds[0] not in (int, float, str):
        return None
    (kind,) = kinds
    return constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar=kind.__name__.upper(),
        instance_from_str=lambda args: None if args == ["None"] else kind(*args),
        is_instance=lambda value: value is None or isinstance(value, kind),
        str_from_instance=lambda value: ["None" if value is None else str(value)],
    )


def load_named(run: RunOptions, seed: int):
    """The model and the data that the options name."""
    from . import data, models, parallel

    dataset = data.load_dataset(
        run.data,
        data_dir=run.data_dir,
        validation=run.validation,
        seed=seed,
        image_size=run.image_size,
    )
    for note in dataset.notes if parallel.is_first() else ():
        print(note)
    return models.create_model(run.model, num_classes=dataset.num_classes), dataset


def load_weights(run: RunOptions, dataset):
    """The variables in the file that the options name, for the data's classes and channels, and the
    data normalized as they want it; None and the data as they are without one."""
    if run.weights is None:
        return None, dataset
    from .weights import load_pretrained

    channels = dataset.image_shape[2]
    _, variables, preprocessing = load_pretrained(
        run.model,
        file=run.weights,
        source=run.weights_source,
        num_classes=dataset.num_classes,
        in_channels=channels,
        adapt="sum" if channels == 1 else "repeat",
    )
    return variables, dataclasses.replace(dataset, normalization=preprocessing.normalization)


_PROCESS_OPTIONS = ("--coordinator", "--num-processes", "--process-id", "--connect-timeout")


def train_defaults(args) -> tuple[RunOptions, TrainingOptions]:
    """The defaults of `train`: a resumed run's own settings, so that it needs no others."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--resume", action="store_true")
    for option in ("--workdir", "--epochs", "--steps", *_PROCESS_OPTIONS):
        parser.add_argument(option, nargs="?")  # what is missing is said by the real parser
    known, _ = parser.parse_known_args(args)
    if args[:1] != ["train"] or not (known.resume and known.workdir):
        return RunOptions(), TrainingOptions()
    saved = _read_config(known)
    names = {field.name for field in dataclasses.fields(RunOptions)} & saved.keys()
    training = read_options(saved)
    if known.epochs is not None:  # one takes the other's place
        training = dataclasses.replace(training, steps=None)
    if known.steps is not None:
        training = dataclasses.replace(training, epochs=None)
    return RunOptions(**{name: saved[name] for name in names}), training


def connect(options: ProcessOptions) -> None:
    """Connects the processes of a run where there are several, unless that is done. Raises
    UserError."""
    from . import parallel

    given = (options.coordinator, options.num_processes, options.process_id)
    if parallel.is_connected():
        return
    if given == (None, None, None) and parallel.detect_cluster()[1] in (None, 1):
        return
    parallel.connect(*given, timeout=options.connect_timeout)


def _read_config(known):
    """The config of the run to resume, which of several processes 0 alone may be able to read."""
    from . import parallel

    kinds = {"coordinator": str, "num_processes": int, "process_id": int, "connect_timeout": float}
    given = {name: getattr(known, name) for name in kinds if getattr(known, name) is not None}
    with contextlib.suppress(ValueError):  # then the real parser says what is wrong
        connect(ProcessOptions(**{name: kinds[name](text) for name, text in given.items()}))
    read = partial(journal.read_config, known.workdir)
    return parallel.first_decides(read, "the config of the run to resume")


def split_command(args: list[str]) -> tuple[list[str], list[str]]:
    """The words of `launch`, and after `--` those of the command that it starts.

    >>> split_command(["launch", "--processes", "2", "--", "train", "--steps", "9"])
    (['launch', '--processes', '2'], ['train', '--steps', '9'])
    """
    if args[:1] != ["launch"]:
        return args, []
    if "--" in args:
        middle = args.index("--")
        return args[:middle], args[middle + 1 :]
    # Without the options of a train that has lost its --, which launch then asks for.
    return args[: args.index("train")] if "train" in args else args, []


def read_checkpoint(text: str) -> str | int:
    """`last`, `best`, or the step that the digits say. Raises UserError for anything else.

    >>> read_checkpoint("best"), read_checkpoint("12")
    ('best', 12)
    """
    if text in ("last", "best"):
        return text
    if text.isdecimal():
        return int(text)
    raise UserError(f"a checkpoint is last, best or a step, not {text!r}")


def read_image_shape(text: str) -> tuple[int, int, int]:
    """`(H, W, C)` of `HxWxC`. Raises UserError for anything else.

    >>> read_image_shape("32x48x3")
    (32, 48, 3)
    """
    sides = text.split("x")
    if len(sides) != 3 or not all(side.isdecimal() and int(side) > 0 for side in sides):
        raise UserError(f"an image's shape is HEIGHTxWIDTHxCHANNELS, as 224x224x3, not {text!r}")
    return tuple(map(int, sides))
