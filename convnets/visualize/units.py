"""What is looked at: the units of a network, by endpoint, channel and place."""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.errors import FlaxError

from ..errors import UserError, first_line, unknown
from ..models import Classifier, Folded
from ..ops import image
from .arguments import require_images

PLACES = ("max", "mean")


class Unit(NamedTuple):
    """A unit of a network, or one for each image.

    Attributes:
      channel: of the endpoint, an int, or ints `[B]`; a class, for the logits. None for the
        channel that is strongest, image by image: the predicted class.
      endpoint: its name; None for the last one, a classifier's logits.
      place: in an endpoint that is a map: `max` for the place where the channel is strongest in the
        image, `mean` for the mean over all places, or `(row, column)`.

    >>> Unit(3)
    Unit(channel=3, endpoint=None, place='max')
    """

    channel: Any = None
    endpoint: str | None = None
    place: str | tuple[int, int] = "max"


PREDICTED = Unit()


def compute_endpoints(model, variables, images, *, normalization=None) -> dict[str, np.ndarray]:
    """The activation maps of every endpoint, in the order of computation.

    Args:
      model, variables, images, normalization: see `convnets.visualize`.

    Returns: arrays `[B, H', W', C']`, and `[B, K]` for what is no map.

    >>> from convnets import create_model
    >>> model, images = create_model("lenet5"), np.zeros((2, 28, 28, 1), np.uint8)
    >>> variables = model.init(jax.random.key(0), images / 255.0, train=False)
    >>> maps = compute_endpoints(model, variables, images)
    >>> list(maps), maps["c3"].shape
    (['c1', 's2', 'c3', 's4', 'pre_logits', 'logits'], (2, 10, 10, 16))
    """
    images = require_images(images, normalization)
    names = endpoint_shapes(model, variables, images)
    found = _compute(model, variables, images, normalization)
    return {name: np.asarray(found[name]) for name in names}


def run_endpoints(model, variables, images) -> dict:
    """The endpoints of prepared images, of a classifier or of a backbone; to be traced."""
    method = "endpoints" if isinstance(_unfolded(model), Classifier) else None
    endpoints = model.apply(variables, images, train=False, method=method)
    if not isinstance(endpoints, dict):
        raise UserError(
            "expected a classifier or a backbone, a module that returns a dict of endpoints; came "
            f"a {type(model).__name__}"
        )
    return endpoints


def backbone_of(model):
    """The backbone of a classifier; a backbone itself."""
    model = _unfolded(model)
    return model.backbone if isinstance(model, Classifier) else model


def endpoint_shapes(model, variables, images) -> dict[str, tuple[int, ...]]:
    """The endpoints' shapes for these images, in the order of computation, without running.

    Raises: UserError for what is no model, and for variables or images that do not fit it.
    """
    if not isinstance(model, nn.Module):
        raise UserError(
            f"expected a flax.linen.Module for the model, came a {type(model).__name__}"
        )
    if not isinstance(variables, Mapping) or "params" not in variables:
        raise UserError(
            'variables are {"params": …, …}, as state.variables() or model.init(…) gives them, not '
            f"{'those of a model' if isinstance(variables, Mapping) else type(variables).__name__}"
        )
    names = []  # a dict that passes through JAX comes back in alphabetical order

    def run(variables, images):
        endpoints = run_endpoints(model, variables, images)
        names[:] = endpoints
        return list(endpoints.values())

    images = jax.ShapeDtypeStruct(np.shape(images), jnp.float32)
    try:
        shapes = jax.eval_shape(run, variables, images)
    except FlaxError as error:
        raise UserError(
            f"images {images.shape} or variables are not those of this {type(model).__name__}: "
            f"{first_line(error)}"
        ) from None
    return {name: found.shape for name, found in zip(names, shapes)}


def resolve_unit(model, variables, images, unit: Unit, normalization=None) -> Unit:
    """The same unit, its endpoint by name and its channels int32 `[B]` or None.

    Raises: UserError for an endpoint, a channel or a place that is not there, for images that are
      none, and for variables of another model.
    """
    require_images(images, normalization)
    if not isinstance(unit, Unit):
        raise UserError(f"a unit is Unit(channel, endpoint, place), as Unit({unit!r:.20})")
    shapes = endpoint_shapes(model, variables, images)
    endpoint = list(shapes)[-1] if unit.endpoint is None else unit.endpoint
    if endpoint not in shapes:
        raise unknown("endpoint", endpoint, shapes)
    shape, channel, place = shapes[endpoint], unit.channel, unit.place
    if channel is not None:
        channel = np.asarray(channel)
        if channel.shape not in ((), (len(images),)) or channel.dtype.kind not in "iu":
            raise UserError(
                f"a unit's channel is an int, or ints [{len(images)}] for as many images; came "
                f"{channel.dtype} of shape {channel.shape}"
            )
        if channel.min() < 0 or channel.max() >= shape[-1]:
            came = ", ".join(map(str, np.unique(channel)[:5]))
            raise UserError(f"{endpoint} has the channels 0 to {shape[-1] - 1}, came {came}")
        channel = np.broadcast_to(channel.astype(np.int32), (len(images),))
    if isinstance(place, str):
        if place not in PLACES:
            raise unknown("place", place, PLACES)
    elif (
        len(shape) != 4
        or np.shape(place) != (2,)
        or np.asarray(place).dtype.kind not in "iu"
        or not all(0 <= p < side for p, side in zip(place, shape[1:3]))
    ):
        raise UserError(f"{endpoint} has the shape {shape}: there is no place {place}")
    else:
        place = tuple(int(p) for p in place)
    return Unit(channel, endpoint, place)


def resolve_channel(model, variables, images, unit: Unit, normalization) -> Unit:
    """As `resolve_unit`; where it leaves the channel open, the strongest one in each image."""
    unit = resolve_unit(model, variables, images, unit, normalization)
    if unit.channel is None:
        maps = _compute(model, variables, images, normalization)[unit.endpoint]
        channel = np.asarray(strengths(maps, unit.place)).argmax(1).astype(np.int32)
        unit = unit._replace(channel=channel)
    return unit


def read_unit(maps, unit: Unit):
    """The activation of a resolved unit in each image: `[B, H, W, C]` or `[B, C]` to `[B]`."""
    maps = strengths(maps, unit.place)
    channel = jnp.argmax(maps, 1) if unit.channel is None else unit.channel
    return jnp.take_along_axis(maps, channel[:, None], 1)[:, 0]


def strengths(maps, place):
    """Every channel's activation at a place: `[B, H, W, C]` to `[B, C]`, which stays itself."""
    if maps.ndim == 2:
        return maps
    if place == "mean":
        return maps.mean((1, 2))
    if place == "max":
        rows = maps.reshape(len(maps), -1, maps.shape[3])
        return jnp.take_along_axis(rows, jnp.argmax(rows, 1, keepdims=True), 1)[:, 0]
    return maps[:, place[0], place[1]]


def _unfolded(model):
    return model.model if isinstance(model, Folded) else model


@partial(jax.jit, static_argnums=0)
def _compute(model, variables, images, normalization):
    return run_endpoints(model, variables, image.prepare(images, normalization))
