"""What is attacked: a function from images in [0, 1] to logits."""

from collections.abc import Callable, Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from ..errors import UserError
from ..losses import softmax_cross_entropy
from ..ops.image import prepare, to_float

Classify = Callable[[jax.Array], jax.Array]
BRIGHTEST = 8.0  # of floats, which may leave [0, 1] a little; bytes go to 255


def as_function(model, variables, *, normalization=None) -> Classify:
    """The classifier by itself, in evaluation and with its normalization inside.

    Args:
      model: a classifier.
      variables: of it, as `result.state.variables()`, which are moving averages where a state keeps
        them, or imported weights.
      normalization: that it was trained with, as `result.state.normalization`.

    Returns: `images [B, H, W, C] -> logits [B, K]`, of uint8 images or floats in [0, 1], so that
    all distances to them are in pixels of [0, 1].

    Raises: UserError for what are no variables.

    >>> from convnets import create_model
    >>> model, images = create_model("linear"), jnp.zeros((2, 8, 8, 1))
    >>> variables = model.init(jax.random.key(0), images, train=False)
    >>> as_function(model, variables)(images).shape
    (2, 10)
    """
    if not isinstance(variables, Mapping) or "params" not in variables:
        raise UserError(
            f'variables are {{"params": …}}, as state.variables(), not {type(variables).__name__}'
        )
    variables = {name: tree for name, tree in variables.items() if tree}
    return partial(_classify, model, variables, normalization)


def require_size(epsilon: float, norm: str = "max") -> None:
    """Refuses what is no size of a change: in pixels of [0, 1], not of bytes."""
    if isinstance(epsilon, jax.core.Tracer):  # within a search over sizes
        return
    if not epsilon >= 0 or (norm == "max" and epsilon > 1):
        raise UserError(f"epsilon is in pixels of [0, 1], as 8 / 255, not {epsilon}")


def as_images(images, labels=None):
    """Images to be attacked, as floats in [0, 1], and their labels looked at.

    Raises: UserError for what is no batch of images, bytes among floats, and labels that are not
    one for each.
    """
    if np.ndim(images) != 4 or not len(images):
        raise UserError(f"expected images [B, H, W, C], at least one, came {np.shape(images)}")
    if not isinstance(images, jax.core.Tracer) and np.asarray(images).dtype.kind == "f":
        largest = np.abs(np.asarray(images, np.float32)).max()
        if not largest <= BRIGHTEST:
            raise UserError(f"images are uint8 or floats in [0, 1], came up to {largest:.4g}")
    images = to_float(images)
    if labels is not None and np.shape(labels) != (len(images),):
        raise UserError(f"expected a label for each of {len(images)} images, not {labels!r:.60}")
    return images


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
