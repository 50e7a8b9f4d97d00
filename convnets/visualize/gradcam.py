"""Where in the image the evidence for a class is: Grad-CAM."""

from functools import partial

import jax
import jax.numpy as jnp

from ..errors import UserError, unknown
from ..ops import image
from .programs import evaluate, inline, leads_to
from .units import PREDICTED, Unit, endpoint_shapes, read_unit, resolve_unit, run_endpoints


def grad_cam(
    model, variables, images, unit: Unit = PREDICTED, *, endpoint: str | None = None,
    normalization=None,
):  # fmt: skip
    """The maps of an endpoint, summed with the mean gradients of a unit to them, rectified.

    Args:
      model, variables, images, normalization: see `convnets.visualize`.
      unit: by default the score of the predicted class.
      endpoint: whose maps are summed; None for the last one larger than a pixel that the unit is
        computed from.

    Returns: float32 `[B, H, W]`, at least 0, of the size of the images (bilinear).

    Raises: UserError for a unit or an endpoint that is not there, is no map, or does not come
      before the unit.

    Reference: Selvaraju, Cogswell, Das, Vedantam, Parikh, Batra 2017, "Grad-CAM: visual
    explanations from deep networks via gradient-based localization", equations 1 and 2.

    >>> from convnets import create_model
    >>> model, images = create_model("lenet5"), jnp.zeros((2, 28, 28, 1))
    >>> variables = model.init(jax.random.key(0), images, train=False)
    >>> grad_cam(model, variables, images, Unit(channel=7)).shape
    (2, 28, 28)
    """
    unit = resolve_unit(model, variables, images, unit, normalization)
    candidates = find_maps(endpoint_shapes(model, variables, images), unit.endpoint, endpoint)
    run = partial(_maps, model, variables, images, unit.channel, normalization)
    for name in candidates:
        try:
            maps, gradients = run(name=unit.endpoint, place=unit.place, endpoint=name)
            break
        except NotOnTheWay:  # an endpoint that is made for looking alone
            if name == candidates[-1]:
                raise
    weights = gradients.mean((1, 2), keepdims=True)
    found = jnp.maximum((weights * maps).sum(3), 0)
    return jax.image.resize(found, images.shape[:3], "bilinear")


class NotOnTheWay(UserError):
    """A unit is not computed from an endpoint."""


def find_maps(shapes, unit: str, endpoint: str | None) -> list[str]:
    """The names of endpoints of images before the one of a unit, the last one first; or the one.

    >>> find_maps({"stage1": (1, 8, 8, 4), "logits": (1, 3)}, "logits", None)
    ['stage1']
    """
    before = list(shapes)[: list(shapes).index(unit)]
    maps = [name for name in before if len(shapes[name]) == 4 and shapes[name][1:3] != (1, 1)]
    if endpoint is None:
        if not maps:
            raise UserError(f"there is no endpoint of images before {unit}")
        return maps[::-1]
    if endpoint not in shapes:
        raise unknown("endpoint", endpoint, shapes)
    if endpoint not in maps:
        raise UserError(f"{endpoint} {shapes[endpoint]} is no map before {unit}; known: {maps}")
    return [endpoint]


@partial(jax.jit, static_argnums=0, static_argnames=("name", "place", "endpoint"))
def _maps(model, variables, images, channel, normalization, *, name, place, endpoint):
    """The maps of an endpoint, and the gradient of a unit to them.

    The gradient to a value inside a network is that to a zero which is added to it there.
    """

    def run(images):
        endpoints = run_endpoints(model, variables, image.prepare(images, normalization))
        return endpoints[endpoint], read_unit(endpoints[name], Unit(channel, name, place))

    traced = jax.make_jaxpr(run)(images)
    if not leads_to(traced.jaxpr, *traced.jaxpr.outvars):  # or not to be seen from the outside
        traced = inline(traced.jaxpr, traced.consts, [images])
    program, constants = traced.jaxpr, traced.consts
    inside, above = program.outvars
    if not leads_to(program, inside, above):
        raise NotOnTheWay(f"{name} is not computed from {endpoint}: leave the endpoint out")

    def run_from(addition):
        maps, values = evaluate(program, constants, [images], additions={inside: addition})
        return values.astype(jnp.float32).sum(), maps

    zeros = jnp.zeros(inside.aval.shape, inside.aval.dtype)
    gradients, maps = jax.grad(run_from, has_aux=True)(zeros)
    return maps.astype(jnp.float32), gradients.astype(jnp.float32)
