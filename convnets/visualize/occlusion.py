"""What a unit loses when a part of the image is covered."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from ..errors import UserError
from ..ops import image
from ..ops.convolution import as_pair
from .arguments import require_images, require_range
from .units import PREDICTED, Unit, read_unit, resolve_channel, run_endpoints


def occlude(
    model, variables, images, unit: Unit = PREDICTED, *, window=16, stride=8, fill=0.5,
    normalization=None,
):  # fmt: skip
    """How much a unit's activation falls when a square covers a pixel, over all such squares.

    Args:
      model, variables, images, normalization: see `convnets.visualize`.
      unit: by default the score of the class that is predicted for the whole image.
      window: height and width of what covers the image, an int or a pair.
      stride: pixels from one place of it to the next, an int or a pair, at most the window; the
        last place ends with the image.
      fill: its value, in the units of the images as floats: gray.

    Returns: float32 `[B, H, W]`, in units of the activation: the mean over the places that cover a
      pixel. Negative where the unit does better without.

    Raises: UserError for a unit that is not there, and a window or stride that does not fit.

    Reference: Zeiler, Fergus 2014, section 4.2, figure 7. Differs: the paper shows the activation
    itself at the place of the square's center.

    >>> from convnets import create_model
    >>> model, images = create_model("lenet5"), np.zeros((2, 28, 28, 1), np.uint8)
    >>> variables = model.init(jax.random.key(0), images / 255.0, train=False)
    >>> occlude(model, variables, images, Unit(7), window=14, stride=14).shape
    (2, 28, 28)
    """
    images = image.to_float(require_images(images, normalization))
    unit = resolve_channel(model, variables, images, unit, normalization)
    size, window, stride = images.shape[1:3], as_pair(window), as_pair(stride)
    if not all(1 <= s <= w <= side for s, w, side in zip(stride, window, size)):
        raise UserError(
            f"expected 1 <= stride <= window <= the image's side; came stride {stride}, window "
            f"{window} for images of {size[0]}x{size[1]}"
        )
    require_range("fill", fill, normalization)
    run = partial(_activation, model, variables, images, unit.channel, normalization, fill)
    run = partial(run, endpoint=unit.endpoint, place=unit.place)
    whole = np.asarray(run(np.zeros(size, bool)))
    total, times = np.zeros(images.shape[:3]), np.zeros(size)
    for top in _starts(size[0], window[0], stride[0]):
        for left in _starts(size[1], window[1], stride[1]):
            covered = np.zeros(size, bool)
            covered[top : top + window[0], left : left + window[1]] = True
            total[:, covered] += (whole - np.asarray(run(covered)))[:, None]
            times += covered
    return (total / times).astype(np.float32)


def _starts(size, window, stride):
    return sorted({*range(0, size - window + 1, stride), size - window})


@partial(jax.jit, static_argnums=0, static_argnames=("endpoint", "place"))
def _activation(
    model, variables, images, channel, normalization, fill, covered, *, endpoint, place
):
    images = jnp.where(covered[None, :, :, None], fill, images)
    endpoints = run_endpoints(model, variables, image.normalize(images, normalization))
    return read_unit(endpoints[endpoint], Unit(channel, endpoint, place)).astype(jnp.float32)
