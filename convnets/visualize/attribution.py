"""Which pixels a unit's activation hangs on: gradients to the image, and what is made of them."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..errors import UserError
from ..ops import collective, image
from .arguments import require_images, require_range
from .programs import replace_relus
from .units import PREDICTED, Unit, read_unit, resolve_channel, resolve_unit, run_endpoints


def guided(inside, gradient):
    """Of the gradient that arrives at a ReLU, what is positive, where the input was too."""
    return jnp.where(inside, jnp.maximum(gradient, 0), 0)


def saliency(model, variables, images, unit: Unit = PREDICTED, *, normalization=None):
    """The gradient of a unit's activation to the pixels.

    Args:
      model, variables, images, normalization: see `convnets.visualize`.
      unit: by default the score of the predicted class.

    Returns: float32 `[B, H, W, C]`.

    Raises: UserError for a unit that is not there.

    Reference: Simonyan, Vedaldi, Zisserman 2014, "Deep inside convolutional networks", section 3,
    who show the largest absolute value over the channels, as `heat` does.

    >>> from convnets import create_model
    >>> model, images = create_model("lenet5"), np.zeros((2, 28, 28, 1), np.uint8)
    >>> variables = model.init(jax.random.key(0), images / 255.0, train=False)
    >>> saliency(model, variables, images, Unit(channel=7)).shape
    (2, 28, 28, 1)
    """
    unit = resolve_unit(model, variables, images, unit, normalization)
    return unit_gradient(model, variables, images, unit, normalization)[1]


def guided_backpropagation(model, variables, images, unit: Unit = PREDICTED, *, normalization=None):
    """The gradient to the pixels, of which every ReLU passes the positive part alone.

    Arguments and result as in `saliency`. ReLUs are those that `replace_relus` finds; of other
    activations the derivative is used as it is.

    Raises: UserError also for a network without a ReLU.

    Reference: Springenberg, Dosovitskiy, Brox, Riedmiller 2015, "Striving for simplicity: the all
    convolutional net", section 3.4.
    """
    unit = resolve_unit(model, variables, images, unit, normalization)
    return unit_gradient(model, variables, images, unit, normalization, guided)[1]


def smooth_gradient(
    model, variables, images, unit: Unit = PREDICTED, *, samples=32, noise=0.15, seed=0,
    normalization=None,
):  # fmt: skip
    """SmoothGrad: the mean gradient over noisy copies of each image.

    Arguments and result as in `saliency`, and:
      samples: copies of each image, computed one after the other.
      noise: the deviation of their noise, as a share of the image's range (largest less smallest).
      seed: of the noise.

    A unit without a channel is that of the image without noise.

    Reference: Smilkov, Thorat, Kim, Viégas, Wattenberg 2017, "SmoothGrad: removing noise by adding
    noise", section 3.
    """
    if samples < 1 or noise < 0:
        raise UserError(f"at least 1 sample and noise from 0 on, came {samples} and {noise}")
    images = image.to_float(require_images(images, normalization))
    unit = resolve_channel(model, variables, images, unit, normalization)
    spread = noise * jnp.ptp(images, (1, 2, 3), keepdims=True)
    total = 0
    for key in jax.random.split(jax.random.key(seed), samples):
        keys = collective.example_keys(key, len(images))
        noisy = images + spread * jax.vmap(jax.random.normal, (0, None))(keys, images.shape[1:])
        total = total + unit_gradient(model, variables, noisy, unit, normalization)[1]
    return total / samples


class IntegratedGradients(NamedTuple):
    """Attributions `[B, H, W, C]`; what their sum should be, the difference of the activation
    between image and baseline `[B]`; and by how much of it they miss it `[B]`."""

    attributions: jax.Array
    difference: jax.Array
    gap: jax.Array


def integrated_gradients(
    model, variables, images, unit: Unit = PREDICTED, *, baseline=0.0, tolerance=0.01, most=1024,
    normalization=None,
):  # fmt: skip
    """The gradient along the straight way from a baseline to the image, times that way.

    The attributions of an image sum to the difference of its activation and the baseline's. The
    trapezoidal rule is refined, from 16 steps on by halves, until that is so.

    Arguments as in `saliency`, and:
      baseline: an image without what is looked for, in the units of the images as floats: a number,
        or what broadcasts to `[B, H, W, C]`; 0 is black.
      tolerance: the largest gap, as a share of the difference, in every image.
      most: steps, after which it ends in any case: look at `gap`.

    A unit without a channel is that of the image, and the place `max` is looked for anew at every
    step, as the activation is that maximum.

    Returns: `IntegratedGradients`.

    Reference: Sundararajan, Taly, Yan 2017, "Axiomatic attribution for deep networks", equations 1
    and 3. Differs: the paper takes a fixed number of steps, 20 to 300.
    """
    if not tolerance > 0 or most < 16:
        raise UserError(f"tolerance above 0 and most of at least 16, came {tolerance} and {most}")
    images = image.to_float(require_images(images, normalization))
    unit = resolve_channel(model, variables, images, unit, normalization)
    require_range("baselines", baseline, normalization)
    try:
        start = jnp.broadcast_to(jnp.asarray(baseline, jnp.float32), images.shape)
    except ValueError:
        raise UserError(
            f"the baseline {np.shape(baseline)} is not of the images {images.shape}"
        ) from None

    def gradient(share):
        between = start + share * (images - start)
        return unit_gradient(model, variables, between, unit, normalization)

    (low, first), (high, last) = gradient(0.0), gradient(1.0)
    difference, mean, steps = high - low, (first + last) / 2, 1
    while True:
        attributions = mean * (images - start)
        missed = jnp.abs(attributions.sum((1, 2, 3)) - difference)
        gap = missed / jnp.where(difference == 0, 1, jnp.abs(difference))
        if steps >= 16 and (2 * steps > most or gap.max() <= tolerance):
            return IntegratedGradients(attributions, difference, gap)
        between = sum(gradient((step + 0.5) / steps)[1] for step in range(steps)) / steps
        mean, steps = (mean + between) / 2, 2 * steps


def heat(attributions):
    """One value a pixel: the largest absolute value over the channels, `[B, H, W, C]` to
    `[B, H, W]`.

    >>> heat(np.array([1.0, -3.0]).reshape(1, 1, 1, 2)).tolist()
    [[[3.0]]]
    """
    return np.abs(np.asarray(attributions)).max(3)


STATIC = ("endpoint", "place", "backward", "weigh")


@partial(jax.jit, static_argnums=0, static_argnames=STATIC)
def _gradient(
    model, variables, images, channel, normalization, *, endpoint, place, backward, weigh
):
    unit = Unit(channel, endpoint, place)

    def activate(images):
        endpoints = run_endpoints(model, variables, image.normalize(images, normalization))
        return read_unit(endpoints[endpoint], unit).astype(jnp.float32)

    if backward is not None:
        activate = replace_relus(activate, backward, required=backward is guided)
    images = image.to_float(images)
    values, pull = jax.vjp(activate, images)
    return values, pull(weigh(values))[0]


def unit_gradient(
    model, variables, images, unit: Unit, normalization, backward=None, weigh=jnp.ones_like
):
    """A resolved unit's activation `[B]`, and its gradient to the images `[B, H, W, C]`.

    `backward` is what ReLUs pass, as in `replace_relus`, None for their own derivative; `weigh`
    makes of the activation what goes back from it, 1 for the gradient.
    """
    channel, endpoint, place = unit
    options = dict(endpoint=endpoint, place=place, backward=backward, weigh=weigh)
    return _gradient(model, variables, images, channel, normalization, **options)
