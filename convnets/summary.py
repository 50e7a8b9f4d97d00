"""What a network costs, layer by layer, without running it."""

import inspect
import math
from collections import Counter
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict
from jax.extend.core import Jaxpr

from .models import Classifier, Feature, describe_endpoints
from .models.tracing import path_of, programs_of, trace
from .tables import align_columns, format_count, format_shape

# Our convolutions: which of their operands and result are the smaller image and the kernel.
PASSES = {
    "convolution": (2, 1),
    "convolution_input_gradient": (0, 1),
    "convolution_kernel_gradient": (1, 2),
}


class Layer(NamedTuple):
    """One module that has parameters or multiply-adds of its own, or no module inside it.

    `output_shape` is that of one image, `(H, W, C)` or `(C,)`, or None where the module returns no
    single array, or is not called in evaluation.
    """

    path: str
    type: str
    output_shape: tuple[int, ...] | None
    parameters: int
    multiply_adds: int


class Summary(NamedTuple):
    """The layers in the order in which they are called, and totals for one image.

    `activation_bytes` is the size of the layers' outputs in the forward pass: about what a step
    of training keeps of each image for its backward pass. `endpoints` are the backbone's, empty
    for a model that is no `Classifier`.
    """

    layers: tuple[Layer, ...]
    parameters: int
    multiply_adds: int
    activation_bytes: int
    endpoints: tuple[Feature, ...]


def summarize(model: nn.Module, image_shape) -> Summary:
    """Output shapes, parameters and multiply-adds of a model for images of shape `(H, W, C)`.

    Multiply-adds are those of every convolution and matrix product in the forward pass of one
    image in evaluation, in whichever module they stand. Windows count in full, padding included,
    as papers count; a loop of unknown length counts once, a branch as its costliest side.

    Args:
      model: called `(images, *, train)`, or `(images)`.
      image_shape: `(H, W, C)`.

    >>> from convnets import create_model
    >>> summary = summarize(create_model("lenet5"), (28, 28, 1))
    >>> summary.parameters, summary.multiply_adds
    (61706, 416520)
    """
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    mode = {"train": False} if "train" in inspect.signature(model.__call__).parameters else {}
    variables = jax.eval_shape(lambda key, x: model.init(key, x, **mode), jax.random.key(0), images)
    calls, jaxpr = trace(lambda variables, x: model.apply(variables, x, **mode), variables, images)
    parameters = _count_parameters(variables.get("params", {}))
    multiply_adds = count_multiply_adds(jaxpr)

    paths = list(calls) + [path for path in parameters if path not in calls]
    parents = {path[: path.rfind("/")] if "/" in path else "" for path in calls if path}
    layers, activation_bytes = [], 0
    for path in paths:
        if path in parents and not parameters[path] and not multiply_adds[path]:
            continue
        module, outputs = calls.get(path, (None, []))
        activation_bytes += sum(output.size * output.dtype.itemsize for output in outputs)
        shape = outputs[0].shape[1:] if len(outputs) == 1 else None
        kind = "" if module is None else type(module).__name__
        layers.append(Layer(path, kind, shape, parameters[path], multiply_adds[path]))
    endpoints = ()
    if isinstance(model, Classifier):
        endpoints = describe_endpoints(model.backbone, image_shape)
    return Summary(
        tuple(layers), parameters.total(), multiply_adds.total(), activation_bytes, endpoints
    )


def format_summary(summary: Summary) -> str:
    """The summary as a table for the terminal, totals and endpoints below it."""
    rows = [("layer", "type", "output", "parameters", "multiply-adds")]
    for layer in summary.layers:
        shape = "" if layer.output_shape is None else format_shape(layer.output_shape)
        counts = (f"{count:,}" if count else "" for count in layer[3:])
        rows.append((layer.path or "(model)", layer.type, shape, *counts))
    rows.append(("total", "", "", f"{summary.parameters:,}", f"{summary.multiply_adds:,}"))
    lines = align_columns(rows, left=3)
    rule = "-" * max(map(len, lines))
    lines = [lines[0], rule, *lines[1:-1], rule, lines[-1]]
    lines.append(
        f"\n{format_count(summary.parameters)} parameters, "
        f"{format_count(summary.multiply_adds)} multiply-adds and "
        f"{summary.activation_bytes / 2**10:,.0f} KiB of layer outputs an image"
    )
    if summary.endpoints:
        endpoints = (
            f"{name} ({'' if stride is None else f'stride {stride}, '}{channels} channels)"
            for name, stride, channels in summary.endpoints
        )
        lines.append("endpoints: " + ", ".join(endpoints))
    return "\n".join(lines)


def _count_parameters(params) -> Counter:
    counts = Counter()
    for path, parameter in flatten_dict(params).items():
        counts["/".join(path[:-1])] += parameter.size
    return counts


def count_multiply_adds(jaxpr: Jaxpr, path: str = "") -> Counter:
    """Multiply-adds by the path of their module, walking into jitted functions, loops and branches.

    Args:
      jaxpr: such as `tracing.trace` gives.
      path: where operations without a module of their own stand.
    """
    counts = Counter()
    for equation in jaxpr.eqns:
        here = path_of(equation, path)
        if own := _multiply_adds(equation):
            counts[here] += own
        inner = [count_multiply_adds(part, here) for part in programs_of(equation)]
        if equation.primitive.name == "cond":
            inner = [max(inner, key=Counter.total)]
        times = equation.params["length"] if equation.primitive.name == "scan" else 1
        for part in inner:
            for key, count in part.items():
                counts[key] += times * count
    return counts


def _multiply_adds(equation) -> int:
    """Those of one operation itself; an operation that is not listed here has none."""
    if not equation.outvars:
        return 0
    name, output = equation.primitive.name, equation.outvars[0].aval.shape
    if name in PASSES:  # each pixel of the smaller image meets each tap
        shapes = [variable.aval.shape for variable in equation.invars] + [output]
        pixels, kernel = (shapes[place] for place in PASSES[name])
        return math.prod(pixels) * math.prod(kernel) // kernel[3]
    if name not in ("conv_general_dilated", "dot_general"):
        return 0
    left, right = (variable.aval.shape for variable in equation.invars)
    numbers = equation.params["dimension_numbers"]
    if name == "dot_general":
        (contracted, _), _ = numbers
        return math.prod(output) * math.prod(left[axis] for axis in contracted)
    if max(equation.params["lhs_dilation"]) > 1:  # transposed: each input pixel meets each tap
        return math.prod(left) * math.prod(right) // left[numbers.lhs_spec[1]]
    return math.prod(output) * math.prod(right) // right[numbers.rhs_spec[0]]
