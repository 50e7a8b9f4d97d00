"""The best input of a unit, found by gradient ascent; of a logit, a picture of its class."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ..errors import UserError, unknown
from ..ops import image
from .units import Unit, read_unit, resolve_unit, run_endpoints

GRAY = 0.5


class Stimulus(NamedTuple):
    """Images `[restarts, H, W, C]`, in units of [0, 1] but not kept within, the best one first; and
    the unit's activation for each, `[restarts]`."""

    images: np.ndarray
    activations: np.ndarray


def best_stimulus(
    model, variables, image_shape, unit: Unit, *, contrast=0.2, restarts=4, steps=256,
    learning_rate=0.05, jitter=0, parametrization="fourier", seed=0, normalization=None,
) -> Stimulus:  # fmt: skip
    """The images of one contrast that drive a unit the most, as far as gradient ascent finds them.

    Args:
      model, variables, normalization: see `convnets.visualize`.
      image_shape: `(H, W, C)` of the images to be found.
      unit: with an int for its channel; a class, for the logits.
      contrast: the root mean square of the pixels' differences from gray (0.5), which is held:
        the images lie on a sphere around gray.
      restarts: images, each from noise of its own and none knowing of the others.
      steps, learning_rate: of Adam.
      jitter: the image is shifted by up to so many pixels at each step, in a circle, at random,
        which keeps out what depends on the very pixel.
      parametrization: what the steps are taken in, and how fine the noise is at first: `pixels`,
        or `fourier`, the image's spectrum, every wave as fast as it is long.
      seed: of the noise and the shifts.

    Returns: `Stimulus`, the activations those without jitter.

    Raises: UserError for a unit that is not there, and for options out of their range.

    Reference: Erhan, Bengio, Courville, Vincent 2009, "Visualizing higher-layer features of a deep
    network"; Le et al. 2012, section 4.3 (on a sphere); Simonyan et al. 2014, section 2 (of a
    class); Olah, Mordvintsev, Schubert 2017, "Feature visualization" (jitter and Fourier).

    >>> from convnets import create_model
    >>> model, shape = create_model("lenet5"), (28, 28, 1)
    >>> variables = model.init(jax.random.key(0), np.zeros((1, *shape), np.float32), train=False)
    >>> best_stimulus(model, variables, shape, Unit(7), steps=2).images.shape
    (4, 28, 28, 1)
    """
    if parametrization not in PARAMETRIZATIONS:
        raise unknown("parametrization", parametrization, PARAMETRIZATIONS)
    if min(contrast, restarts, learning_rate) <= 0 or min(steps, jitter) < 0:
        raise UserError(
            f"contrast, restarts and learning_rate are above 0, steps and jitter not below; came "
            f"{contrast}, {restarts}, {learning_rate}, {steps}, {jitter}"
        )
    if np.ndim(unit.channel) or unit.channel is None:
        raise UserError(f"a stimulus is that of one channel, an int; came {unit.channel}")
    shape = (restarts, *image_shape)
    unit = resolve_unit(model, variables, np.zeros(shape, np.float32), unit)
    draw, make_image = PARAMETRIZATIONS[parametrization]
    key, first = jax.random.split(jax.random.key(seed))
    parameters = draw(first, shape)
    state = optax.adam(learning_rate).init(parameters)
    options = dict(
        endpoint=unit.endpoint, place=unit.place, make_image=make_image, shape=shape, jitter=jitter
    )
    climb = partial(_climb, model, variables, unit.channel, normalization, contrast, learning_rate)
    for number in range(steps):
        shift = jax.random.randint(jax.random.fold_in(key, number), (2,), -jitter, jitter + 1)
        parameters, state = climb(parameters, state, shift, **options)
    activations, images = _activate(
        model, variables, unit.channel, normalization, contrast, parameters, (0, 0), **options
    )
    order = np.argsort(-np.asarray(activations), kind="stable")
    return Stimulus(np.asarray(images)[order], np.asarray(activations)[order])


def _draw_pixels(key, shape):
    return jax.random.normal(key, shape)


def _draw_waves(key, shape):
    """Real and imaginary parts of the spectrum's half, which real images are given by."""
    return jax.random.normal(key, (2, *shape[:2], shape[2] // 2 + 1, shape[3]))


def _from_pixels(parameters, shape):
    return parameters


def _from_waves(parameters, shape):
    height, width = shape[1:3]
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    frequency = np.maximum(np.hypot(rows, columns), 1 / max(height, width))
    spectrum = jax.lax.complex(parameters[0], parameters[1])
    spectrum = spectrum / jnp.asarray(frequency, jnp.float32)[None, :, :, None]
    return jnp.fft.irfft2(spectrum, (height, width), axes=(1, 2))


PARAMETRIZATIONS = {"pixels": (_draw_pixels, _from_pixels), "fourier": (_draw_waves, _from_waves)}
STATIC = ("endpoint", "place", "make_image", "shape", "jitter")


@partial(jax.jit, static_argnums=0, static_argnames=STATIC)
def _activate(
    model, variables, channel, normalization, contrast, parameters, shift, *, endpoint, place,
    make_image, shape, jitter,
):  # fmt: skip
    """Activations `[restarts]` and images, which are on the sphere whatever the parameters are."""
    images = make_image(parameters, shape)
    size = jnp.sqrt(jnp.square(images).mean((1, 2, 3), keepdims=True))
    images = GRAY + contrast * images / jnp.maximum(size, 1e-12)
    seen = jnp.roll(images, shift, (1, 2)) if jitter else images
    endpoints = run_endpoints(model, variables, image.normalize(seen, normalization))
    unit = Unit(channel, endpoint, place)
    return read_unit(endpoints[endpoint], unit).astype(jnp.float32), images


@partial(jax.jit, static_argnums=0, static_argnames=STATIC)
def _climb(
    model, variables, channel, normalization, contrast, learning_rate, parameters, state, shift,
    **options,
):  # fmt: skip
    def fall(parameters):
        arguments = (variables, channel, normalization, contrast, parameters, shift)
        return -_activate(model, *arguments, **options)[0].sum()

    updates, state = optax.adam(learning_rate).update(jax.grad(fall)(parameters), state)
    return optax.apply_updates(parameters, updates), state
