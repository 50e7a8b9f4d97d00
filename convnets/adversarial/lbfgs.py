"""The first attack: the smallest change that makes an image be taken for a given class."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..errors import UserError
from ..losses import softmax_cross_entropy
from .victim import Classify, as_images

LARGEST, LEAST = 1e12, 1e-6  # of c, between which it is searched for
BEGIN, HALVINGS = 1e3, 12  # where the search begins; bisections after it is bracketed


class Found(NamedTuple):
    """What `lbfgs_attack` returns.

    Attributes:
      images: float32 `[B, H, W, C]` in [0, 1]; the image itself where nothing was found, and where
        it is taken for the target as it is.
      fooled: bool `[B]`, whether it is taken for the target.
      distortion: float64 `[B]`, the root mean square of the change over the pixels.
    """

    images: np.ndarray
    fooled: np.ndarray
    distortion: np.ndarray


def lbfgs_attack(classify: Classify, images, targets, *, iterations: int = 100) -> Found:
    """Box-constrained L-BFGS: `min c |r|^2 + E(x + r, target)` over `x + r` in [0, 1].

    The larger c is, the smaller the change, until it is too small; the largest c at which the
    target is reached is searched for by bisection of its logarithm.

    Args:
      classify: `images -> logits`.
      images: `[B, H, W, C]`, uint8 or floats in [0, 1].
      targets: integers `[B]`, the classes to be taken for.
      iterations: of L-BFGS for one c, at most.

    Raises: UserError where there is no image, and not one target an image that is a class.

    Reference: Szegedy, Zaremba, Sutskever, Bruna, Erhan, Goodfellow, Fergus 2014, "Intriguing
    properties of neural networks", section 4.1. Differs: the paper prints `c |r|`, where the square
    is smooth at 0, and looks for the smallest c, where the largest one makes the smallest change.

    >>> classify = lambda images: 9 * images.reshape(len(images), -1)
    >>> found = lbfgs_attack(classify, np.full((1, 1, 2, 1), [[0.6], [0.4]]), [1], iterations=9)
    >>> found.fooled.tolist(), np.round(found.images.ravel(), 1).tolist()
    ([True], [0.5, 0.5])
    """
    images, targets = np.asarray(as_images(images)), np.asarray(targets)
    if targets.shape != images.shape[:1]:
        raise UserError(f"expected a target for each of {len(images)} images, not {targets.shape}")
    classes = jax.eval_shape(classify, images).shape[-1]
    if not 0 <= targets.min() <= targets.max() < classes:
        raise UserError(f"targets are classes 0 to {classes - 1}, not {targets.tolist()}")

    @jax.jit
    def objective(x, clean, target, weight):
        def value(x):
            logits = classify(x[None])
            loss = softmax_cross_entropy(logits, target[None])[0]
            change = jnp.sum(jnp.square(x - clean))
            return weight * change + loss, jnp.argmax(logits[0]) == target

        (total, fooled), gradient = jax.value_and_grad(value, has_aux=True)(x)
        return total, gradient, fooled

    found = [_search(objective, x, target, iterations) for x, target in zip(images, targets)]
    changed = np.stack([x for x, _ in found]).astype(np.float32)
    change = changed.astype(np.float64) - images
    distortion = np.sqrt(np.square(change).mean((1, 2, 3)))
    return Found(changed, np.array([fooled for _, fooled in found]), distortion)


def _search(objective, clean, target, iterations):
    """The nearest image that fools, over c, and whether there is any."""
    best, distance = clean, np.inf

    def attempt(weight):
        nonlocal best, distance
        x, fooled = _minimize(objective, clean, target, weight, iterations)
        if fooled and np.square(x - clean).sum() < distance:
            best, distance = x, np.square(x - clean).sum()
        return fooled

    if bool(objective(jnp.asarray(clean), clean, target, jnp.float32(0))[2]):
        return clean, True
    low = high = BEGIN
    if attempt(BEGIN):
        while high < LARGEST and attempt(high := high * 10):
            low = high
    else:
        while low > LEAST and not attempt(low := low / 10):
            high = low
    if not np.isfinite(distance):
        fooled = attempt(0.0)
        return best, fooled
    for _ in range(HALVINGS):
        middle = np.sqrt(low * high)
        if attempt(middle):
            low = middle
        else:
            high = middle
    return best, True


def _minimize(objective, clean, target, weight, iterations):
    """The end of one run of L-BFGS-B from the image itself, and whether it fools."""
    from scipy.optimize import minimize

    shape = clean.shape

    def function(flat):
        total, gradient, _ = objective(
            jnp.asarray(flat.reshape(shape), jnp.float32), clean, target, jnp.float32(weight)
        )
        return float(total), np.asarray(gradient, np.float64).ravel()

    end = minimize(
        function,
        clean.ravel().astype(np.float64),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0.0, 1.0)] * clean.size,
        options={"maxiter": iterations},
    )
    x = np.clip(end.x, 0, 1).reshape(shape).astype(np.float32)
    _, _, fooled = objective(jnp.asarray(x), clean, target, jnp.float32(weight))
    return x, bool(fooled)
