"""Receptive fields: which pixels of the image each unit of a network is computed from.

They are read off the program of a network, which is traced and not run. The numbers of the rows,
and then those of the columns, are a ruler beside the image, whose marks go through the program.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ..errors import UserError
from .features import LARGER
from .marks import least_marks

Pair = tuple[int, int]


class ReceptiveField(NamedTuple):
    """What the units of an endpoint see, away from the image's borders.

    Attributes:
      endpoint: its name.
      size: height and width of the field in pixels; None for a unit that sees the whole image, of
        any size.
      stride: pixels from one unit's field to the next one's; None where the size is.
      center: row and column of the middle of the field of the unit at (0, 0), which may lie between
        two pixels or outside of the image; None where the size is.
    """

    endpoint: str
    size: Pair | None
    stride: Pair | None
    center: tuple[float, float] | None


class Spans(NamedTuple):
    """The pixels that each row and column of units sees: `first` of them, and `last`, both within
    the image and int `[H']` or `[W']`; 0 and -1 where units see none, but padding."""

    first_row: np.ndarray
    last_row: np.ndarray
    first_column: np.ndarray
    last_column: np.ndarray


def receptive_fields(model: nn.Module, image_shape) -> tuple[ReceptiveField, ...]:
    """The receptive fields of a backbone's endpoints, in the order of computation.

    Where the channels of an endpoint see differently (of an inception module, for one), the field
    is that of all of them. It is counted as far as weights reach, whatever they are.

    Args:
      model: called `(images, *, train)`, and returning a dict of endpoints.
      image_shape: `(H, W, C)`; fields are those in a much larger image.

    Raises: UserError for an operation that is not known here, and for a model without endpoints.

    Reference: Luo, Li, Urtasun, Zemel 2016, "Understanding the effective receptive field in deep
    convolutional neural networks", whose theoretical receptive field this is.

    >>> from convnets.models.lenet import LeNet5
    >>> receptive_fields(LeNet5(), (28, 28, 1))[-1]
    ReceptiveField(endpoint='s4', size=(16, 16), stride=(4, 4), center=(5.5, 5.5))
    """
    height, width, channels = image_shape
    found = {}
    for more in (LARGER, 8 * LARGER):  # the second for what is as large as the first
        shape = (height + more, width + more, channels)
        for name, spans in trace_spans(model, shape).items():
            if name not in found or found[name].size is None:
                found[name] = _inner_field(name, spans, shape)
        if all(field.size is not None for field in found.values()):
            break
    return tuple(found.values())


def trace_spans(model: nn.Module, image_shape) -> dict[str, Spans | None]:
    """The pixels that the units of each endpoint see in an image of this very size; None for an
    endpoint that is no map.

    Arguments and errors as in `receptive_fields`.

    >>> from convnets.models.lenet import LeNet5
    >>> spans = trace_spans(LeNet5(), (28, 28, 1))["s4"]
    >>> spans.first_row.tolist(), spans.last_row.tolist()
    ([0, 2, 6, 10, 14], [13, 17, 21, 25, 27])
    """
    names, images = [], jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)

    def run(variables, images):
        endpoints = model.apply(variables, images, train=False)
        if not isinstance(endpoints, dict):
            raise UserError(
                "expected a backbone, which returns endpoints by name, such as that of a "
                f"classifier, model.backbone; came a {type(model).__name__}"
            )
        names[:] = endpoints
        return list(endpoints.values())

    variables = jax.eval_shape(
        lambda key, x: model.init(key, x, train=False), jax.random.key(0), images
    )
    program = jax.make_jaxpr(run)(variables, images).jaxpr
    rows = np.arange(image_shape[0]).reshape(1, -1, 1, 1)
    columns = np.arange(image_shape[1]).reshape(1, 1, -1, 1)
    nothing = [None] * (len(program.invars) - 1)
    rulers = (rows, -rows, columns, -columns)
    least = [least_marks(program, [*nothing, ruler.astype(float)]) for ruler in rulers]
    found = {}
    for name, variable, *marks in zip(names, program.outvars, *least):
        maps = len(variable.aval.shape) == 4
        found[name] = _spans(variable.aval.shape, marks) if maps else None
    return found


def _spans(shape, marks) -> Spans:
    """The marks of one endpoint, those of its rows and those of its columns."""
    along = []
    for mark, axis, sign in zip(marks, (1, 1, 2, 2), (1, -1, 1, -1)):
        mark = np.inf if mark is None else mark.min(tuple({0, 1, 2, 3} - {axis}))
        mark = np.broadcast_to(mark, shape[axis])
        nothing = min(sign, 0)
        along.append(np.where(np.isinf(mark), nothing, sign * mark).astype(int))
    return Spans(*along)


def _inner_field(name, spans: Spans | None, image_shape) -> ReceptiveField:
    """The field of a unit in the middle, which is whole if it does not touch the borders."""
    whole = ReceptiveField(name, None, None, None)
    if spans is None:
        return whole
    sides = []
    for first, last, pixels in zip(spans[::2], spans[1::2], image_shape):
        middle = len(first) // 2
        if len(first) < 3 or first[middle] <= 0 or last[middle] >= pixels - 1:
            return whole
        stride = int(first[middle + 1] - first[middle])
        center = (first[middle] + last[middle]) / 2 - middle * stride
        sides.append((int(last[middle] - first[middle]) + 1, stride, float(center)))
    return ReceptiveField(name, *zip(*sides))
