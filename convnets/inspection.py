"""The commands that look at models: which there are, what they cost, are they right, how fast."""

from typing import Annotated

from tyro import conf

from .errors import UserError
from .parsing import OptionalFile, OptionalImage, read_image_shape


def models(pattern: conf.Positional[Annotated[str, conf.arg(metavar="PATTERN")]] = "*") -> int:
    """List the models whose names match a pattern: name, image, parameters, multiply-adds.

    Parameters are without those of the auxiliary heads of GoogLeNet and Inception v3, which are for
    training only. Multiply-adds are of one image of the size that is listed.

    Args:
      pattern: A shell pattern, such as resnet*. CIFAR's families have more depths than are
        listed: 6k + 2, and 6k + 4 for cifar_wrn.
    """
    from .sizing import format_sizes, model_sizes

    sizes = model_sizes(pattern)
    if not sizes:
        raise UserError(f"no model's name matches {pattern!r}; `convnets models` lists them")
    print(format_sizes(sizes))
    return 0


def summary(
    name: conf.Positional[Annotated[str, conf.arg(metavar="MODEL")]],
    image: OptionalImage = None,
    num_classes: int | None = None,
) -> int:
    """Show a model's layers, their shapes, parameters and multiply-adds, without running it.

    Args:
      name: Name of a model.
      image: Shape of an image, as 224x224x3. None: the one that the model was made for.
      num_classes: Outputs. None: those that the model was made for.
    """
    from .models import create_model, default_image_shape
    from .summary import format_summary, summarize

    model = create_model(name, num_classes=num_classes)
    shape = default_image_shape(name) if image is None else read_image_shape(image)
    print(format_summary(summarize(model, shape)))
    return 0


def check(
    name: conf.Positional[Annotated[str, conf.arg(metavar="MODEL")]],
    file: conf.Positional[Annotated[str, conf.arg(metavar="FILE")]],
    reference: OptionalFile = None,
    source: str = "torchvision",
    num_classes: int | None = None,
) -> int:
    """Import weights, and compare the output of each layer and the logits with a reference.

    Tells the first layer that differs, and ends with exit code 1 where one does.

    Args:
      name: Name of a model, ours or timm's.
      file: Weights, as safetensors or by PyTorch; or a reference, which says its own weights.
      reference: What the other library's model gave under these weights, as .npz. None: FILE where
        it is one; else names and shapes alone are compared.
      source: The library that the weights and the reference are of, torchvision or timm.
      num_classes: Outputs, without a reference. None: those that the model was made for.
    """
    from . import weights

    state_dict, expected = weights.read_weights(file)
    if reference is not None:
        expected = weights.read_reference(reference)
    in_channels = None
    if expected is not None:
        num_classes, in_channels = expected.logits.shape[1], expected.images.shape[3]
    variables = weights.import_torch(
        name, state_dict, source, num_classes=num_classes, in_channels=in_channels
    )
    if expected is None:
        print(
            f"all {len(state_dict)} tensors of {file} are those of {name} in {source}; "
            "with --reference its answers are compared too"
        )
        return 0
    report = weights.compare_layers(name, variables, expected, source)
    print(weights.format_report(report))
    return 0 if report.agrees else 1


def benchmark(
    model: str,
    batch_size: int,
    image: OptionalImage = None,
    mode: str = "train",
    precision: str = "float32",
    lowering: str | None = None,
    against: str | None = None,
    repetitions: int = 5,
    seconds: float = 1.0,
    profile: bool = False,
    memory: bool = False,
    file: Annotated[OptionalFile, conf.arg(name="json")] = None,
) -> int:
    """Measure a network's speed, compile time and memory, by itself or beside a peer.

    Args:
      model: Name of a model.
      batch_size: Images a step.
      image: Shape of an image, as 224x224x3. None: the one that the model was made for.
      mode: train (whole steps) or infer (logits).
      precision: float32 or bfloat16.
      lowering: Of convolutions on the CPU: onednn, plain or xla. None: the best there is.
      against: torch or flax: the same network there, in turn with ours. None: no peer.
      repetitions: How often each is timed.
      seconds: How long a repetition lasts, at least.
      profile: Tell the parts of a step by kind of work too.
      memory: Run nothing; predict the memory needed and the largest batch that fits.
      file: File for all that was found, as JSON.
    """
    from . import benchmark as measuring
    from . import parallel

    parallel.keep_memory()
    shape = None if image is None else read_image_shape(image)
    workload = measuring.create_workload(
        model, batch_size, shape, mode=mode, precision=precision, lowering=lowering
    )
    if file is not None:
        measuring.require_writable(file)
    if memory:
        found = measuring.foretell(workload)
        print(measuring.format_memory(found))
    else:
        found = measuring.measure(
            workload, against=against, repetitions=repetitions, seconds=seconds, profiled=profile
        )
        print(measuring.format_measurement(found))
    if file is not None:
        measuring.write_json(file, found)
    return 0
