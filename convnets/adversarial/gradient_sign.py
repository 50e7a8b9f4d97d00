"""Attacks along the gradient: a plain step, its sign, random signs, many projected steps.

Images are `[B, H, W, C]`, uint8 or floats in [0, 1], and so is what comes back, as float32; sizes
are in pixels of [0, 1].
"""

import jax
import jax.numpy as jnp
from jax import lax

from ..errors import UserError, unknown
from .victim import Classify, as_images, is_wrong, loss_gradient, require_size

NORMS = ("max", "l2")


def gradient_step(
    classify: Classify, images, labels, keys=None, *, rate: float, target=None, clip=True
):
    """One plain step up the loss: `x + rate * dE/dx`, or down that of a target.

    Args:
      classify: `images -> logits`.
      images: of them.
      labels: integers `[B]`.
      keys: not used; attacks are called alike.
      rate: of the step.
      target: integers `[B]`, the classes that the images are to be taken for, in the place of any
        but their own; or None.
      clip: whether to bring the result back into [0, 1].

    Reference: Szegedy et al. 2014 as the lectures print it, `x + alpha dE/dx`; Karpathy 2015,
    "Breaking linear classifiers on ImageNet".

    >>> classify = lambda images: images.reshape(len(images), -1)
    >>> x = jnp.full((1, 1, 2, 1), 0.5)
    >>> x = gradient_step(classify, x, jnp.array([0]), rate=0.25)
    >>> [round(value, 3) for value in x.ravel().tolist()]
    [0.375, 0.625]
    """
    direction, labels = (1.0, labels) if target is None else (-1.0, target)
    images = as_images(images, labels)
    _, gradient, _ = loss_gradient(classify, images, labels)
    moved = images + direction * rate * gradient
    return jnp.clip(moved, 0, 1) if clip else moved


def fast_gradient_sign(classify: Classify, images, labels, keys=None, *, epsilon: float):
    """Every pixel moved by epsilon towards a larger loss, and back into [0, 1].

    Args:
      classify: `images -> logits`.
      images: of them.
      labels: integers `[B]`.
      keys: not used; attacks are called alike.
      epsilon: in pixels of [0, 1].

    Raises: UserError for an epsilon out of [0, 1].

    Reference: Goodfellow, Shlens, Szegedy 2015, "Explaining and harnessing adversarial examples",
    section 4.

    >>> classify = lambda images: images.reshape(len(images), -1)
    >>> x = jnp.full((1, 1, 2, 1), 0.5)
    >>> fast_gradient_sign(classify, x, jnp.array([0]), epsilon=0.25).ravel().tolist()
    [0.25, 0.75]
    """
    require_size(epsilon)
    images = as_images(images, labels)
    _, gradient, _ = loss_gradient(classify, images, labels)
    return jnp.clip(images + epsilon * jnp.sign(gradient), 0, 1)


def random_signs(classify: Classify, images, labels, keys, *, epsilon: float):
    """Every pixel moved by epsilon up or down by chance: what noise of that size does alone.

    Args:
      classify, labels: not used.
      images: of them.
      keys: one an image, `[B]`.
      epsilon: in pixels of [0, 1].

    Raises: UserError for an epsilon out of [0, 1].

    >>> keys = jax.random.split(jax.random.key(0), 1)
    >>> x = random_signs(None, jnp.full((1, 1, 2, 1), 0.5), None, keys, epsilon=0.25)
    >>> sorted(set(x.ravel().tolist()) | {0.25, 0.75})
    [0.25, 0.75]
    """
    require_size(epsilon)
    images = as_images(images)
    signs = jax.vmap(lambda key, x: jax.random.rademacher(key, x.shape, x.dtype))(keys, images)
    return jnp.clip(images + epsilon * signs, 0, 1)


def projected_gradient(
    classify: Classify,
    images,
    labels,
    keys=None,
    *,
    epsilon: float,
    steps: int = 40,
    step_size: float | None = None,
    norm: str = "max",
):
    """Many steps up the loss, each brought back to where images may be: the strongest point seen.

    The point of `fast_gradient_sign`, or in l2 that of one step of the whole length, is always
    among those seen, so that this is at least as strong on every image: of two points that which is
    misclassified is the stronger, else that of the larger loss.

    Args:
      classify: `images -> logits`.
      images: of them.
      labels: integers `[B]`.
      keys: one an image, `[B]`, for a start at a random point; None for a start at the one step's.
      epsilon: how far from the image, in pixels of [0, 1].
      steps: how many.
      step_size: of each; None for `2.5 * epsilon / steps`.
      norm: of the distance: `max`, of any pixel, or `l2`, of the whole image.

    Raises: UserError for an unknown norm, less than one step, or a size out of range.

    Reference: Madry, Makelov, Schmidt, Tsipras, Vladu 2018, "Towards deep learning models resistant
    to adversarial attacks", section 2.1. Differs: the best point counts, not the last, and the one
    of the fast gradient sign method is among them.

    >>> classify = lambda images: images.reshape(len(images), -1)
    >>> x = jnp.full((1, 1, 2, 1), 0.5)
    >>> x = projected_gradient(classify, x, jnp.array([0]), epsilon=0.25, steps=2)
    >>> x.ravel().tolist()
    [0.25, 0.75]
    """
    if norm not in NORMS:
        raise unknown("norm", norm, NORMS)
    if steps < 1:
        raise UserError(f"at least 1 step, not {steps}")
    require_size(epsilon, norm)
    if step_size is not None and step_size < 0:
        raise UserError(f"step_size is at least 0, not {step_size}")
    step_size = 2.5 * epsilon / steps if step_size is None else step_size
    clean = as_images(images, labels)

    def project(x):
        """A point that is near enough, and an image; the nearest such of the box, in l2 of the ball
        and then of the box."""
        change = x - clean
        if norm == "max":
            return jnp.clip(clean + jnp.clip(change, -epsilon, epsilon), 0, 1)
        length = lengths(change)
        return jnp.clip(clean + change * jnp.minimum(1, epsilon / jnp.maximum(length, 1e-12)), 0, 1)

    def uphill(gradient, size):
        if norm == "max":
            return size * jnp.sign(gradient)
        return size * gradient / jnp.maximum(lengths(gradient), 1e-12)

    def look(x, best):
        """The gradient at a point, and the better of it and the best so far."""
        losses, gradient, logits = loss_gradient(classify, x, labels)
        wrong = is_wrong(logits, labels)
        points, best_wrong, best_losses = best
        better = (wrong & ~best_wrong) | ((wrong == best_wrong) & (losses > best_losses))
        points = jnp.where(better.reshape(-1, 1, 1, 1), x, points)
        best = points, best_wrong | wrong, jnp.where(better, losses, best_losses)
        return gradient, best

    def step(_, carry):
        x, best = carry
        gradient, best = look(x, best)
        return project(x + uphill(gradient, step_size)), best

    nothing = clean, jnp.zeros(len(clean), bool), jnp.full(len(clean), -jnp.inf)
    gradient, best = look(clean, nothing)
    start = project(clean + uphill(gradient, epsilon))
    _, best = look(start, best)
    if keys is not None:
        start = project(clean + _random_change(keys, clean, epsilon, norm))
    x, best = lax.fori_loop(0, steps, step, (start, best))
    return look(x, best)[1][0]


def lengths(images):
    """The l2 norm of each image, `[B, H, W, C] -> [B, 1, 1, 1]`.

    >>> lengths(jnp.ones((1, 2, 2, 1))).item()
    2.0
    """
    return jnp.sqrt(jnp.sum(jnp.square(images), (1, 2, 3), keepdims=True))


def _random_change(keys, images, epsilon, norm):
    """Uniform in the box; in l2 of a random direction and length."""

    def draw(key, x):
        if norm == "max":
            return jax.random.uniform(key, x.shape, x.dtype, -epsilon, epsilon)
        direction_key, length_key = jax.random.split(key)
        direction = jax.random.normal(direction_key, x.shape, x.dtype)
        return epsilon * jax.random.uniform(length_key) * direction / jnp.linalg.norm(direction)

    return jax.vmap(draw)(keys, images)
