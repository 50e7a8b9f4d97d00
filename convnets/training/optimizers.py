"""Optimizers by name, in the lectures' form: a direction, then the learning rate, then momentum."""

from collections.abc import Callable

import jax
import optax

from ..errors import UserError, unknown


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


def _adamw(rate, decay, momentum):
    return [optax.scale_by_adam(), decay, rate]


# Each optimizer's parts, and the learning rate it takes when none is given.
OPTIMIZERS = {
    "sgd": (_scaled(optax.identity), 0.1),
    "momentum": (_momentum(nesterov=False), 0.05),
    "nesterov": (_momentum(nesterov=True), 0.05),
    "adagrad": (_scaled(lambda: optax.scale_by_rss(initial_accumulator_value=0.0)), 0.01),
    "rmsprop": (_scaled(lambda: optax.scale_by_rms(decay=0.9)), 0.001),
    "adam": (_scaled(optax.scale_by_adam), 0.002),
    "adamw": (_adamw, 0.002),
}


def create_optimizer(
    name: str,
    learning_rate: float | Callable[[int], float],
    *,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    clip: float | None = None,
    plateau: optax.GradientTransformation | None = None,
) -> optax.GradientTransformation:
    """An Optax optimizer by name.

    Args:
      name: `sgd`; `momentum`, Δ ← μΔ − η∇L, θ ← θ + Δ; `nesterov`, the same looking ahead;
        `adagrad`, θ ← θ − η g / √Σg²; `rmsprop`, Δ ← 0.9Δ + 0.1g², θ ← θ − η g / √Δ; `adam`;
        `adamw`.
      learning_rate: η, or a function of the number of updates.
      momentum: μ, of `momentum` and `nesterov` alone.
      weight_decay: times the parameter, added to the gradient; in `adamw` to the direction. On
        kernels only: parameters named `kernel`, never biases or batch norm's scales.
      clip: largest global norm of the gradient, None for no limit.
      plateau: the transformation of `reduce_on_plateau`, to scale the learning rate with.

    Raises: UserError for an unknown name or a negative rate, decay or limit.

    Reference: Sutskever et al. 2013, equations 1 to 4; Duchi et al. 2011; Tieleman and Hinton
    2012; Kingma and Ba 2015, algorithm 1; Loshchilov and Hutter 2019, algorithm 2. Differs:
    AdaGrad's and RMSProp's roots are guarded by Optax's epsilon against division by zero.

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
    if weight_decay < 0 or not 0 <= momentum < 1:
        raise UserError(
            f"weight decay must not be negative and momentum lies in [0, 1), "
            f"not {weight_decay} and {momentum}"
        )
    if clip is not None and not clip > 0:
        raise UserError(f"the largest gradient norm must be positive, not {clip}")
    decay = optax.add_decayed_weights(weight_decay, mask=kernels) if weight_decay else None
    clipping = optax.clip_by_global_norm(clip) if clip is not None else None
    rate = optax.scale_by_learning_rate(learning_rate)
    rate = rate if plateau is None else optax.chain(rate, plateau)
    build, _ = OPTIMIZERS[name]
    parts = [clipping, *build(rate, decay, momentum)]
    return optax.chain(*[part for part in parts if part is not None])


def default_learning_rate(name: str) -> float:
    """The learning rate that an optimizer takes when none is given."""
    if name not in OPTIMIZERS:
        raise unknown("optimizer", name, OPTIMIZERS)
    return OPTIMIZERS[name][1]


def kernels(params):
    """A tree of booleans like `params`: true for what is named `kernel`, which alone decays."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: getattr(path[-1], "key", None) == "kernel", params
    )
