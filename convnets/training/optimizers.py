"""Optimizers by name, in the lectures' form: a direction, then the learning rate, then momentum."""

import math
from collections.abc import Callable, Iterable, Mapping

import optax

from ..errors import UserError, unknown
from .clipping import create_clipping
from .orthogonalization import orthogonalize_momentum
from .selection import join_scales, kernels, scale_rates


def _scaled(direction: Callable[[], optax.GradientTransformation]):
    """Decayed gradients, a direction, the learning rate."""

    def build(rate, decay, momentum):
        return [decay, direction(), rate]

    return build


def _momentum(nesterov: bool):
    """Δ ← μΔ − η∇L, so that a change of η leaves the velocity gained before as it is."""

    def build(rate, decay, momentum):
        return [decay, rate, optax.trace(momentum, nesterov=nesterov)]

    return build


def _decayed_apart(direction: Callable[[], optax.GradientTransformation]):
    """A direction, to which the decay is added, the learning rate."""

    def build(rate, decay, momentum):
        return [direction(), decay, rate]

    return build


def _lars(rate, decay, momentum):
    trust = optax.masked(optax.scale_by_trust_ratio(trust_coefficient=0.001), kernels)
    return [decay, trust, rate, optax.trace(momentum)]


def _lamb(rate, decay, momentum):
    trust = optax.masked(optax.scale_by_trust_ratio(), kernels)
    return [optax.scale_by_adam(eps=1e-6), decay, trust, rate]


# Each optimizer's parts, and the learning rate it takes when none is given.
OPTIMIZERS = {
    "sgd": (_scaled(optax.identity), 0.1),
    "momentum": (_momentum(nesterov=False), 0.05),
    "nesterov": (_momentum(nesterov=True), 0.05),
    "adagrad": (_scaled(lambda: optax.scale_by_rss(initial_accumulator_value=0.0)), 0.01),
    "rmsprop": (_scaled(lambda: optax.scale_by_rms(decay=0.9)), 0.001),
    "adam": (_scaled(optax.scale_by_adam), 0.002),
    "adamw": (_decayed_apart(optax.scale_by_adam), 0.002),
    "lars": (_lars, 1.0),
    "lamb": (_lamb, 0.01),
    "muon": (_decayed_apart(orthogonalize_momentum), 0.02),
}


def create_optimizer(
    name: str,
    learning_rate: float | Callable[[int], float],
    *,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    clip_value: float | None = None,
    clip_adaptive: float | None = None,
    clip: float | None = None,
    rate_scales: Mapping[str, float] | Iterable[tuple[str, float]] = (),
    freeze: Iterable[str] = (),
    plateau: optax.GradientTransformation | None = None,
) -> optax.GradientTransformation:
    """An Optax optimizer by name.

    Args:
      name: `sgd`; `momentum`, Δ ← μΔ − η∇L, θ ← θ + Δ; `nesterov`, the same looking ahead;
        `adagrad`, θ ← θ − η g / √Σg²; `rmsprop`, Δ ← 0.9Δ + 0.1g², θ ← θ − η g / √Δ; `adam`;
        `adamw`; `lars`, momentum with each kernel's gradient times 0.001 ‖θ‖ / ‖g‖; `lamb`, Adam
        with each kernel's direction times ‖θ‖ / ‖direction‖; `muon`, momentum with each kernel's
        direction made orthogonal, all else by Adam: see
        `orthogonalize_momentum`.
      learning_rate: η, or a function of the number of updates.
      momentum: μ, of `momentum`, `nesterov` and `lars` alone.
      weight_decay: times the parameter, added to the gradient; in `adamw`, `lamb` and `muon` to the
        direction. On kernels only: parameters named `kernel`, never biases or batch norm's scales.
      clip_value: largest absolute value of an element of the gradient, None for no limit.
      clip_adaptive: largest norm of a unit's gradient, over the norm of its weights: see
        `create_clipping`, which says what a unit is, and the order of the three limits.
      clip: largest global norm of the gradient.
      rate_scales: factors of the rate by patterns of paths, such as `{"backbone/*": 0.1}`; the
        first that matches a parameter holds, see `training.scale_rates`.
      freeze: patterns of what is not trained at all, as if it stood first in `rate_scales` with 0.
      plateau: the transformation of `reduce_on_plateau`, to scale the learning rate with.

    Raises: UserError for an unknown name or a negative rate, decay, limit or factor; its `init`
    raises it for a pattern that matches no parameter.

    Reference: Sutskever et al. 2013, equations 1 to 4; Duchi et al. 2011; Tieleman and Hinton
    2012; Kingma and Ba 2015, algorithm 1; Loshchilov and Hutter 2019, algorithm 2; You, Gitman,
    Ginsburg 2017, algorithm 1 (LARS); You et al. 2020, algorithm 2 (LAMB, φ the identity); Jordan
    2024 (Muon). Differs: AdaGrad's and RMSProp's roots are guarded by Optax's epsilon against
    division by zero (1e-7 and 1e-8 below the root), which shortens steps along gradients of less
    than about 3e-4 and 1e-3; where LARS decays, the norm below is that of the decayed gradient, not
    the sum of two norms; biases and the like have no trust ratio, as in the authors' programs, nor
    has a kernel of zeros.

    >>> import jax.numpy as jnp
    >>> optimizer = create_optimizer("momentum", 0.1)
    >>> state = optimizer.init(jnp.zeros(()))
    >>> updates, state = optimizer.update(jnp.ones(()), state)
    >>> updates, state = optimizer.update(jnp.ones(()), state)
    >>> round(float(updates), 3)
    -0.19
    """
    if name not in OPTIMIZERS:
        raise unknown("optimizer", name, OPTIMIZERS)
    if not callable(learning_rate) and not learning_rate > 0:
        raise UserError(f"the learning rate must be positive, not {learning_rate}")
    if not 0 <= weight_decay < math.inf or not 0 <= momentum < 1:
        raise UserError(
            f"weight decay must not be negative and momentum lies in [0, 1), "
            f"not {weight_decay} and {momentum}"
        )
    decay = optax.add_decayed_weights(weight_decay, mask=kernels) if weight_decay else None
    rate = optax.scale_by_learning_rate(learning_rate)
    rate = rate if plateau is None else optax.chain(rate, plateau)
    build, _ = OPTIMIZERS[name]
    clipping = create_clipping(value=clip_value, adaptive=clip_adaptive, norm=clip)
    parts = [*clipping, *build(rate, decay, momentum)]
    optimizer = optax.chain(*[part for part in parts if part is not None])
    scales = join_scales(freeze, rate_scales)
    return scale_rates(optimizer, scales) if scales else optimizer


def default_learning_rate(name: str) -> float:
    """The learning rate that an optimizer takes when none is given."""
    if name not in OPTIMIZERS:
        raise unknown("optimizer", name, OPTIMIZERS)
    return OPTIMIZERS[name][1]
