"""Parity: our layers beside those of another library's model, under the same weights and images."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from ..errors import UserError
from ..models import create_model, resolve_name
from ..tables import align_columns, format_shape
from .libraries import names_of
from .naming import WORDS, name_variables
from .references import Reference, ReferenceLayer

# Right weights differ by 5e-6 in the deepest networks; another epsilon of batch norm by 2e-4.
LAYER_TOLERANCE = 1e-4  # of a mean and of a deviation, in deviations of the reference
FLOOR = 1e-6  # what a layer may differ by whose deviation is zero
LOGITS_TOLERANCE = 5e-3  # of the largest difference between the logits of two images


class LayerParity(NamedTuple):
    """One layer, ours and theirs.

    Attributes:
      path: of our module.
      name: of their module.
      shape: of our output for one image, `(H, W, C)` or `(C,)`.
      mean, deviation: of our output; the deviation is that of a sample, over `N - 1`.
      expected: theirs; None where the reference does not have the layer, as a part of another.
      difference: the larger one of the mean's and the deviation's, in deviations of theirs;
        infinite where the shapes differ or ours is not finite; None without theirs.
      differs: whether the difference is beyond the tolerance.
    """

    path: str
    name: str
    shape: tuple[int, ...]
    mean: float
    deviation: float
    expected: ReferenceLayer | None
    difference: float | None
    differs: bool


class Report(NamedTuple):
    """What `compare_layers` found.

    Attributes:
      layers: those of ours that have weights, in the order in which they are called.
      tolerance: of their differences.
      first: the place of the first one that differs among `layers`; None where all agree.
      logits_difference: `max |ours - theirs|`.
      logits_scale: `max |logits[0] - logits[1]|` of theirs.
      agrees: no layer differs, and the logits do by `LOGITS_TOLERANCE` of their scale at most.
    """

    layers: tuple[LayerParity, ...]
    tolerance: float
    first: int | None
    logits_difference: float
    logits_scale: float
    agrees: bool


def compare_layers(
    name: str,
    variables: Mapping,
    reference: Reference,
    source: str = "torchvision",
    *,
    tolerance: float = LAYER_TOLERANCE,
    **options,
) -> Report:
    """Runs a model on the images of a reference, and puts each layer beside the reference's.

    An output is compared by its mean and its standard deviation, which both must be as there, to
    `tolerance` of the reference's deviation (and `FLOOR`). Compared are layers with weights that
    are called, wherever the reference has a module of the same name.

    Args:
      name, options: as in `create_model`; the number of classes is that of the reference.
      variables: `{"params": …, "batch_stats": …}`, such as `import_torch` gives.
      reference: such as `read_reference` gives.
      source: the library that the reference is of, `torchvision` or `timm`.

    Raises: UserError for an unknown model or library, and for a reference of another model.
    """
    model = create_model(name, reference.logits.shape[1], **options)
    named = _name_modules(variables, names_of(resolve_name(name), source))
    theirs = {layer.name: layer for layer in reversed(reference.layers)}  # of two calls the first
    if not theirs.keys() & {*named.values()}:
        raise UserError(f"no layer of {name} in {source} is in the reference; whose is it?")
    logits, outputs = _run(model, variables, reference.images, named)
    layers = tuple(
        _compare(path, named[path], output, theirs.get(named[path]), tolerance)
        for path, output in outputs.items()
    )
    difference = float(np.abs(logits - reference.logits).max())
    scale = float(np.abs(reference.logits[0] - reference.logits[1]).max())
    first = next((place for place, layer in enumerate(layers) if layer.differs), None)
    agrees = first is None and difference <= LOGITS_TOLERANCE * scale  # not where it is NaN
    return Report(layers, tolerance, first, difference, scale, agrees)


def format_report(report: Report) -> str:
    """The report as a table for the terminal, the layers that differ marked, and a verdict.

    >>> expected = ReferenceLayer("fc", (2, 10), mean=0.5, deviation=1.5)
    >>> layer = LayerParity("head", "fc", (10,), 0.25, 1.5, expected, 0.5 / 3, True)
    >>> print(format_report(Report((layer,), 1e-4, 0, 0.25, 2.5, False)))
    layer  theirs  output  mean  theirs  deviation  theirs  difference
    head   fc      10      0.25     0.5        1.5     1.5     1.7e-01  <- the first that differs
    <BLANKLINE>
    layers: 1 of 1 compared, 1 differs by more than 0.0001 of the deviation
    the first that differs: head, there fc
    logits: max |ours - theirs| is 0.25, max |logits[0] - logits[1]| is 2.5: 1.0e-01, at most 5e-03
    verdict: differs
    """
    rows = [("layer", "theirs", "output", "mean", "theirs", "deviation", "theirs", "difference")]
    for layer in report.layers:
        cells = [f"{layer.mean:.5g}", "", f"{layer.deviation:.5g}", "", ""]
        if layer.expected is not None:
            cells[1], cells[3] = f"{layer.expected.mean:.5g}", f"{layer.expected.deviation:.5g}"
            cells[4] = f"{layer.difference:.1e}"
        rows.append((layer.path, layer.name, format_shape(layer.shape), *cells))
    lines = align_columns(rows, left=3)
    for place, layer in enumerate(report.layers):
        if layer.differs:
            lines[place + 1] += "  <- the first that differs" if place == report.first else "  <-"
    return "\n".join([*lines, "", *_conclude(report)])


def _conclude(report: Report) -> list[str]:
    compared = [layer for layer in report.layers if layer.expected is not None]
    differing = sum(layer.differs for layer in compared)
    lines = [
        f"layers: {len(compared)} of {len(report.layers)} compared, {differing} "
        f"{'differs' if differing == 1 else 'differ'} by more than {report.tolerance:g} of the "
        "deviation"
    ]
    if report.first is not None:
        lines.append(f"the first that differs: {_describe_first(report)}")
    share = report.logits_difference / report.logits_scale if report.logits_scale else math.inf
    lines.append(
        f"logits: max |ours - theirs| is {report.logits_difference:.3g}, max |logits[0] - "
        f"logits[1]| is {report.logits_scale:.3g}: {share:.1e}, at most {LOGITS_TOLERANCE:.0e}"
    )
    return [*lines, f"verdict: {'agrees' if report.agrees else 'differs'}"]


def _describe_first(report: Report) -> str:
    """The first layer that differs, with what the fault may lie in besides."""
    layer = report.layers[report.first]
    text = f"{layer.path}, there {layer.name}"
    if not _same_shape(layer.shape, layer.expected.shape):
        text += f" with an output {list(layer.expected.shape)}"
    between = []
    for before in reversed(report.layers[: report.first]):
        if before.expected is not None:
            break
        between.insert(0, before.path)
    return text + (f"; {', '.join(between)} before it could not be compared" if between else "")


def _name_modules(variables, names) -> dict[str, str]:
    """Path -> their name of each of our modules with weights."""
    named = name_variables(flatten_dict(variables, sep="/"), names)
    return {
        path.partition("/")[2].rpartition("/")[0]: name.rpartition(".")[0]
        for path, name in named.items()
        if path.rpartition("/")[2] in WORDS
    }


def _run(model, variables, images, wanted):
    """Logits, and path -> (shape of one image's, mean, deviation) of outputs, in their order."""
    shapes = {}

    @jax.jit
    def run(variables, images):
        moments = []

        def record(next_function, args, kwargs, context):
            output = next_function(*args, **kwargs)
            path = "/".join(context.module.path)
            if context.method_name == "__call__" and path in wanted and path not in shapes:
                shapes[path] = output.shape[1:]
                moments.append(_moments(output))
            return output

        with nn.intercept_methods(record):
            return model.apply(variables, images, train=False), moments

    with jax.default_matmul_precision("highest"):
        logits, moments = run(variables, images)
    outputs = {
        path: (shape, *map(float, pair)) for (path, shape), pair in zip(shapes.items(), moments)
    }
    return np.asarray(logits), outputs


def _moments(x):
    """Mean and deviation (of a sample) of all of an array's values."""
    x = x.astype(jnp.float32)
    mean = x.mean()
    return mean, jnp.sqrt(jnp.square(x - mean).sum() / max(x.size - 1, 1))


def _compare(path, name, output, expected, tolerance) -> LayerParity:
    shape, mean, deviation = output
    if expected is None:
        return LayerParity(path, name, shape, mean, deviation, None, None, False)
    worst = max(abs(mean - expected.mean), abs(deviation - expected.deviation))
    if not (_same_shape(shape, expected.shape) and math.isfinite(mean + deviation)):
        worst = math.inf
    differs = not worst <= tolerance * expected.deviation + FLOOR  # where it is NaN too
    difference = worst / max(expected.deviation, FLOOR)
    return LayerParity(path, name, shape, mean, deviation, expected, difference, differs)


def _same_shape(ours, theirs) -> bool:
    """Whether our output for one image is as theirs, whose channels come first or last."""
    shapes = {ours, (ours[-1], *ours[:-1])} | ({(*ours, 1, 1)} if len(ours) == 1 else set())
    return tuple(theirs[1:]) in shapes
