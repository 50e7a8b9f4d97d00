"""The parts of a data set's images that drive the units of a network the most."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..data import evaluation_batches
from ..errors import UserError, unknown
from ..models import trace_spans
from ..ops import image
from .arguments import require_source
from .deconvolution import deconvnet
from .filters import plot_grid
from .units import Unit, backbone_of, endpoint_shapes, run_endpoints

GRAY = {"uint8": 128, "uint16": 2**15}  # beyond the border of an image; 0.5 among floats


class Strongest(NamedTuple):
    """The strongest activations of some channels `[K]` over a data set, each `[K, count]`, in
    descending order: their values, the examples' positions in the source, and the rows and columns
    in the map of the endpoint, which is named."""

    channels: np.ndarray
    values: np.ndarray
    examples: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    endpoint: str


def find_strongest(
    model, variables, source, endpoint: str, channels=None, *, count=9, batch_size=64,
    normalization=None,
) -> Strongest:  # fmt: skip
    """Where in a data set some channels are strongest: of each image its strongest place counts.

    The source is read once, by the batch; what is kept does not grow with it.

    Args:
      model, variables, normalization: see `convnets.visualize`.
      source: such as `dataset.test`.
      endpoint: one that is a map.
      channels: ints `[K]`; None for all of them.
      count: activations a channel, fewer where the source has fewer images.

    Of equal activations the earlier example comes first, and the earlier place, row by row.

    Raises: UserError for an endpoint or channels that are not there.

    Reference: Zeiler, Fergus 2014, figure 2, with the nine strongest of the validation set.
    """
    channels = _check(model, variables, source, endpoint, channels)
    if count < 1:
        raise UserError(f"at least 1 activation a channel, came {count}")
    best = tuple(np.zeros((len(channels), 0), kind) for kind in (np.float32, int, int, int))
    run = partial(_strongest, model, variables, channels, normalization, endpoint=endpoint)
    for number, batch in enumerate(evaluation_batches(source, batch_size)):
        there = batch["mask"]
        found = [np.asarray(x)[there].T for x in run(batch["image"])]
        examples = number * batch_size + np.flatnonzero(there)
        found.insert(1, np.broadcast_to(examples, found[0].shape))
        both = [np.concatenate(pair, 1) for pair in zip(best, found)]
        order = np.argsort(-both[0], 1, kind="stable")[:, :count]
        best = tuple(np.take_along_axis(x, order, 1) for x in both)
    return Strongest(channels, *best, endpoint)


def cut_patches(model, source, endpoint: str, strongest: Strongest) -> np.ndarray:
    """What these units see: the images' parts in their receptive fields.

    Returns: `[K, count, h, w, C]` of the images' dtype and of the size of the largest field, at
      most the image's; what lies beyond the border of an image is gray. A unit at the border sees
      less, and what it sees stands in its patch where it would stand in the middle of the image.

    Raises: UserError for an endpoint or a source that is not the one of `strongest`.
    """
    _check_found(source, endpoint, strongest)
    batches = [source.batch(examples)["image"] for examples in strongest.examples]
    gray = GRAY.get(batches[0].dtype.name, 0.5)
    return _cut(model, source.image_shape, endpoint, strongest, batches, gray)


def project_patches(
    model, variables, source, endpoint: str, strongest: Strongest, *, normalization=None
) -> np.ndarray:
    """The same activations projected down to the pixels, by `deconvnet`, in the same fields.

    Arguments as of `find_strongest`, which `strongest` is from.

    Returns: float32 `[K, count, h, w, C]`, to be seen beside the patches; 0 where they are gray.

    Reference: Zeiler, Fergus 2014, figure 2.
    """
    _check_found(source, endpoint, strongest)
    batches = []
    for channel, examples in zip(strongest.channels, strongest.examples):
        images, unit = source.batch(examples)["image"], Unit(int(channel), endpoint)
        found = deconvnet(model, variables, images, unit, normalization=normalization)
        batches.append(np.asarray(found))
    return _cut(model, source.image_shape, endpoint, strongest, batches, 0)


def plot_patches(patches, projections=None, *, names=None, title: str = ""):
    """A row for each channel, as a matplotlib figure: patches, and their projections to the left.

    Args:
      patches: `[K, count, h, w, C]`, of `cut_patches`; floats in [0, 1].
      projections: of `project_patches`, each on a scale of its own around gray; or None.
      names: of the rows, such as `strongest.channels`; None for none.
    """
    rows = np.asarray(image.to_float(patches))
    if projections is not None:
        largest = np.abs(projections).max((2, 3, 4), keepdims=True)
        projections = 0.5 + 0.5 * projections / np.where(largest == 0, 1, largest)
        between = np.ones_like(rows[:, :1])
        rows = np.concatenate([projections, between, rows], 1)
    flat = rows.reshape(-1, *rows.shape[2:])
    if flat.shape[3] not in (1, 3):
        flat = flat.mean(3, keepdims=True)
    figure = plot_grid(flat, columns=rows.shape[1], scale="none", title=title)
    height = rows.shape[2] + 1  # with the gap below
    for number, name in enumerate([] if names is None else names):
        place = number * height + height / 2
        figure.axes[0].text(-2, place, str(name), ha="right", va="center", fontsize=8)
    return figure


def _check_found(source, endpoint, strongest):
    require_source(source)
    if endpoint != strongest.endpoint:
        raise UserError(f"these activations are of {strongest.endpoint}, not of {endpoint}")
    if strongest.examples.size and strongest.examples.max() >= len(source):
        raise UserError(f"these activations are of another source than this of {len(source)}")


def _check(model, variables, source, endpoint, channels):
    require_source(source)
    shapes = endpoint_shapes(model, variables, np.empty((1, *source.image_shape), np.uint8))
    maps = {name: shape for name, shape in shapes.items() if len(shape) == 4}
    if endpoint not in maps:
        raise unknown("endpoint of images", endpoint, maps)
    most = maps[endpoint][3]
    channels = np.arange(most) if channels is None else np.asarray(channels)
    if channels.ndim != 1 or not channels.size or channels.dtype.kind not in "iu":
        raise UserError(f"channels are ints [K], came {channels.dtype} of shape {channels.shape}")
    if channels.min() < 0 or channels.max() >= most:
        raise UserError(f"{endpoint} has the channels 0 to {most - 1}, came {channels.tolist()}")
    return channels.astype(np.int32)


def _cut(model, image_shape, endpoint, strongest, batches, beyond):
    """Of batches of images, one for each channel, the parts that the units see."""
    fields = trace_spans(backbone_of(model), image_shape)
    if fields.get(endpoint) is None:
        raise unknown("endpoint of images", endpoint, [name for name in fields if fields[name]])
    spans = fields[endpoint]
    tops, height = _placed(spans.first_row, spans.last_row)
    lefts, width = _placed(spans.first_column, spans.last_column)
    shape = (*strongest.examples.shape, height, width, image_shape[2])
    patches = np.full(shape, beyond, batches[0].dtype)
    for place in np.ndindex(strongest.examples.shape):
        row, column = strongest.rows[place], strongest.columns[place]
        picture = batches[place[0]][place[1]]
        top, bottom = spans.first_row[row], spans.last_row[row] + 1
        left, right = spans.first_column[column], spans.last_column[column] + 1
        if top == bottom or left == right:  # it sees nothing but padding
            continue
        inside = (
            slice(top - tops[row], bottom - tops[row]),
            slice(left - lefts[column], right - lefts[column]),
        )
        patches[place][inside] = picture[top:bottom, left:right]
    return patches


def _placed(first, last):
    """Where the field of every unit would start without borders, and how long it is.

    Fields that the border cuts are shorter; one in the middle tells the length, and the side that
    does not lie at the border where the others start.
    """
    length = max(int((last - first).max()) + 1, 1)
    starts = np.where(first > 0, first, last + 1 - length)
    return starts, length


@partial(jax.jit, static_argnums=0, static_argnames="endpoint")
def _strongest(model, variables, channels, normalization, images, *, endpoint):
    """Of each image and channel the largest value, its row and its column, each `[B, K]`."""
    maps = run_endpoints(model, variables, image.prepare(images, normalization))[endpoint]
    rows = jnp.take(maps, channels, 3).reshape(len(maps), -1, len(channels))
    places = jnp.argmax(rows, 1)
    values = jnp.take_along_axis(rows, places[:, None], 1)[:, 0]
    return values.astype(jnp.float32), places // maps.shape[2], places % maps.shape[2]
