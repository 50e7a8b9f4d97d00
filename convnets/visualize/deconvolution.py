"""The deconvolutional network of Zeiler and Fergus: a unit's activation, projected to the pixels.

The way down through a network undoes its layers: a pooling puts every value to the place that a
switch remembers, a ReLU rectifies, a convolution is answered by its transposed filters. That is
backpropagation in all but the ReLUs: the gradient of max pooling is unpooling by switches, that of
a convolution to its image is the convolution by transposed filters. So the network is run back as
it stands, with another derivative of its ReLUs.
"""

import jax.numpy as jnp

from .attribution import unit_gradient
from .units import PREDICTED, Unit, resolve_unit


def rectified(inside, gradient):
    """Of what arrives at a ReLU from above, the positive part, whatever its input was."""
    return jnp.maximum(gradient, 0)


def itself(activation):
    """What goes down from a unit is its activation, of whatever sign."""
    return activation


def deconvnet(model, variables, images, unit: Unit = PREDICTED, *, normalization=None):
    """The pattern of pixels that a unit's activation is made of.

    Every other unit of the endpoint is set to zero, the activation itself goes down. In a network
    without ReLUs, linear or of other activations, which keep their derivative, this is the gradient
    times the activation. Differs from the paper where its network does not reach: batch norm, means
    and sums pass what their gradient passes, and local response normalization, which the paper
    leaves out on the way down, as well.

    Args:
      model, variables, images, normalization: see `convnets.visualize`.
      unit: by default the score of the predicted class; the paper's are the strongest activations
        of a channel, `Unit(channel, endpoint)`.

    Returns: float32 `[B, H, W, C]`.

    Raises: UserError for a unit that is not there, and for a ReLU inside a loop.

    Reference: Zeiler, Fergus 2014, "Visualizing and understanding convolutional networks", section
    2.1. That it is a backward pass: Simonyan, Vedaldi, Zisserman 2014, section 4.

    >>> import jax
    >>> from convnets import create_model
    >>> model, images = create_model("cifar_plain8"), jnp.ones((2, 8, 8, 3))
    >>> variables = model.init(jax.random.key(0), images, train=False)
    >>> deconvnet(model, variables, images, Unit(3, "stage1")).shape
    (2, 8, 8, 3)
    """
    unit = resolve_unit(model, variables, images, unit, normalization)
    return unit_gradient(model, variables, images, unit, normalization, rectified, itself)[1]
