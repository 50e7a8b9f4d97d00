"""The nearest decision boundary, found by taking the network for linear again and again."""

import jax
import jax.numpy as jnp
from jax import lax

from ..errors import UserError
from .victim import Classify, as_images

TINY = 1e-12
BEYOND = 1e-6  # of the plane, in pixels of [0, 1]


def deepfool(
    classify: Classify,
    images,
    labels=None,
    keys=None,
    *,
    steps: int = 50,
    overshoot: float = 0.02,
    classes: int = 10,
):
    """Images just across the nearest boundary of the class that each is taken for.

    In every step the logits are taken for linear in the image; the nearest of the planes on which
    another class catches up is gone to. It ends for an image once its class changes.

    Args:
      classify: `images -> logits [B, K]`.
      images: `[B, H, W, C]`, uint8 or floats in [0, 1].
      labels, keys: not used; attacks are called alike.
      steps: at most; an image whose class has not changed by then comes back as it is then.
      overshoot: by how much farther than to the boundary, as a share of the way.
      classes: of how many, the likeliest, the boundaries are looked at; at least 2.

    Returns: float32 `[B, H, W, C]` in [0, 1].

    Raises: UserError for less than one step or two classes.

    Reference: Moosavi-Dezfooli, Fawzi, Frossard 2016, "DeepFool", algorithm 2. Differs: images stay
    in [0, 1] at every step.

    >>> classify = lambda images: images.reshape(len(images), -1)
    >>> x = jnp.array([0.6, 0.4]).reshape(1, 1, 2, 1)
    >>> [round(value, 3) for value in deepfool(classify, x).ravel().tolist()]
    [0.498, 0.502]
    """
    if steps < 1 or classes < 2:
        raise UserError(f"at least 1 step and 2 classes, not {steps} and {classes}")
    clean = as_images(images)
    if jax.eval_shape(classify, clean).shape[-1] < 2:
        raise UserError("a network of one class has no boundary")

    def logits_of(x):
        return classify(x[None])[0].astype(jnp.float32)

    def fool(x):
        ranks = lax.top_k(logits_of(x), min(classes, logits_of(x).shape[-1]))[1]
        own, others = ranks[0], ranks[1:]

        def not_yet(carry):
            count, _, now = carry
            return (count < steps) & (jnp.argmax(logits_of(now)) == own)

        def step(carry):
            count, way, now = carry
            logits = logits_of(now)
            slopes = jax.jacrev(lambda x: logits_of(x)[ranks])(now)
            apart = slopes[1:] - slopes[:1]
            behind = jnp.abs(logits[others] - logits[own])
            norms = jnp.sqrt(jnp.sum(jnp.square(apart), (1, 2, 3)))
            nearest = jnp.argmin(behind / jnp.maximum(norms, TINY))
            norm = jnp.maximum(norms[nearest], TINY)
            way = way + (behind[nearest] / norm + BEYOND) * apart[nearest] / norm
            return count + 1, way, jnp.clip(x + (1 + overshoot) * way, 0, 1)

        return lax.while_loop(not_yet, step, (0, jnp.zeros_like(x), x))[2]

    return jax.vmap(fool)(clean)
