"""What is attacked: a function from images in [0, 1] to logits."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from ..losses import softmax_cross_entropy
from ..ops.image import prepare
from ..training.state import TrainState

Classify = Callable[[jax.Array], jax.Array]


def as_function(model, state: TrainState) -> Classify:
    """The classifier of a state, `images [B, H, W, C] -> logits [B, K]`, normalization inside.

    Images are uint8, or floats in [0, 1], so that all distances to them are in pixels of [0, 1].
    Moving averages are used where the state keeps them.
    """
    variables = {name: tree for name, tree in state.variables().items() if tree}
    return partial(_classify, model, variables, state.normalization)


def _classify(model, variables, normalization, images):
    return model.apply(variables, prepare(images, normalization), train=False)


def loss_gradient(classify: Classify, images, labels):
    """The cross entropy of each image, `[B]`, its gradient with respect to the image, and the
    logits.

    >>> classify = lambda images: images.reshape(len(images), -1)
    >>> _, gradient, _ = loss_gradient(classify, jnp.zeros((1, 1, 2, 1)), jnp.array([0]))
    >>> gradient.ravel().tolist()
    [-0.5, 0.5]
    """

    def total(images):
        logits = classify(images)
        losses = softmax_cross_entropy(logits, labels)
        return losses.sum(), (losses, logits)

    gradient, (losses, logits) = jax.grad(total, has_aux=True)(images)
    return losses, gradient, logits


def is_wrong(logits, labels):
    """Whether another class than the label has the largest logit, `[B]`.

    >>> is_wrong(jnp.array([[0.0, 1.0]]), jnp.array([0])).tolist()
    [True]
    """
    return jnp.argmax(logits, -1) != labels
