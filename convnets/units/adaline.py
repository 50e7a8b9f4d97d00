"""Adaline, the adaptive linear neuron: each example moves the weights by its own error."""

from collections.abc import Callable

import jax.numpy as jnp
from jax import lax

from .requirements import require_examples


def train_adaline(
    features, targets, *, rate: float | Callable[[int], float], epochs: int, weights=None
):
    """Least mean squares, example by example: `w -= rate (w . x - y) x`.

    That is a step down the gradient of `1/2 (y - w . x)^2`. At a constant rate the weights come
    near the least-squares solution and stay off it by about the rate; at one that falls as
    1 / step they reach it.

    Args:
      features: `[N, D]`, floats; a column of ones gives the threshold.
      targets: `[N]`, floats; -1 or 1 for a decision, which is the sign of `w . x`.
      rate: of each update, or a function of the number of updates. The largest that is stable is
        below `2 / |x|^2`.
      epochs: how often all examples are shown, in their order.
      weights: `[D]`, where to begin; None for zeros.

    Returns: `[epochs, D]`, the weights after each epoch.

    Raises: ValueError for shapes that do not fit.

    Reference: Widrow, Hoff 1960, "Adaptive switching circuits"; Widrow, Stearns 1985, chapter 6.
    Differs: in Collobert's lecture (2015) the derivative of `1/2 (y - f)^2` by `f` is printed
    `y - f`; it is `f - y`, and steps against the printed one move away from the target.

    >>> from convnets.units import train_adaline
    >>> x, y = jnp.array([[1.0, -1.0], [1.0, 1.0]]), jnp.array([0.0, 4.0])
    >>> train_adaline(x, y, rate=0.5, epochs=1).tolist()
    [[2.0, 2.0]]
    """
    require_examples(features, targets)
    if weights is None:
        weights = jnp.zeros(features.shape[1], features.dtype)
    rate_of = rate if callable(rate) else lambda step: rate

    def show(carry, example):
        step, weights = carry
        x, y = example
        slope = jnp.asarray(rate_of(step), x.dtype) * (weights @ x - y)
        return (step + 1, weights - slope * x), None

    def show_all(carry, _):
        carry, _ = lax.scan(show, carry, (features, targets.astype(features.dtype)))
        return carry, carry[1]

    return lax.scan(show_all, (0, weights), length=epochs)[1]
