"""Sharpness-aware minimization: the gradient at the worst point near by."""

from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
import optax

from ..errors import UserError
from .selection import join_scales, rate_factors


def sharpness_aware(
    gradient_fn: Callable, radius: float, *, scales: Iterable[tuple[str, float]] = ()
) -> Callable:
    """A gradient function that climbs first: ∇L(θ + ρ g / ‖g‖), g = ∇L(θ).

    Args:
      gradient_fn: `(state, batch) -> …, grads, batch_stats, metrics`, as `gradient(loss_fn)` gives,
        reduced over the devices.
      radius: ρ; the paper takes 0.05 for CIFAR and ImageNet.
      scales: factors of the learning rate by patterns of paths, as in `scale_rates`: what they
        freeze does not climb either.

    Returns: a function like it. Gradients are those at the point above, with the same batch and the
    same key; loss, batch statistics and metrics are those at θ. A step takes two gradients' time.

    Raises: UserError for a radius that is not positive.

    Reference: Foret, Kleiner, Mobahi, Neyshabur 2021, "Sharpness-aware minimization for efficiently
    improving generalization", equations 2 and 3, algorithm 1. Differs: the norm is of the whole
    batch's gradient, not of each device's part (m-sharpness, section 4.1).

    >>> def gradient_fn(state, batch):
    ...     return jax.grad(lambda params: jnp.sum(params["w"] ** 2))(state.params), {}, {}
    >>> from .state import TrainState
    >>> state = TrainState(0, None, {"w": jnp.array([3.0, 4.0])}, {}, None)
    >>> grads, _, _ = sharpness_aware(gradient_fn, 0.5)(state, {})
    >>> [round(value, 4) for value in grads["w"].tolist()]
    [6.6, 8.8]
    """
    if not radius > 0:
        raise UserError(f"the radius of the climb must be positive, not {radius}")
    scales = join_scales((), scales)

    def climbed_gradient(state, batch):
        *before, grads, batch_stats, metrics = gradient_fn(state, batch)
        ascent = jax.tree.map(lambda g, x: g * (x > 0), grads, rate_factors(grads, scales))
        scale = radius / jnp.maximum(optax.tree.norm(ascent), 1e-12)
        params = jax.tree.map(lambda x, g: x + scale.astype(x.dtype) * g, state.params, ascent)
        grads = gradient_fn(state.replace(params=params), batch)[-3]
        return *before, grads, batch_stats, metrics

    return climbed_gradient
