"""Parameters picked by their paths: what decays, what stays frozen, what has a rate of its own."""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

import jax
import jax.numpy as jnp
import optax

from ..errors import UserError


def kernels(params):
    """A tree of booleans like `params`: true for what is named `kernel`, which alone decays."""
    return jax.tree.map(lambda path: path.split("/")[-1] == "kernel", paths(params))


def paths(params):
    """A tree of strings like `params`: each parameter's path, as `backbone/conv1/kernel`.

    >>> paths({"params": {"head": {"bias": 0, "kernel": 0}}})
    {'params': {'head': {'bias': 'head/bias', 'kernel': 'head/kernel'}}}
    """

    def name(path, _):
        return jax.tree_util.keystr(path, simple=True, separator="/").removeprefix("params/")

    return jax.tree_util.tree_map_with_path(name, params)


def is_of_head(path: str) -> bool:
    """Whether a parameter is of a last dense layer, an auxiliary head's too."""
    return "head" in path.split("/")[:-1]


def join_scales(
    freeze: Iterable[str], rate_scales: Mapping[str, float] | Iterable[tuple[str, float]]
) -> tuple[tuple[str, float], ...]:
    """Patterns of what is frozen, and of other rates, as one list for `scale_rates`.

    >>> join_scales("head/*", {"*": 0.5})
    (('head/*', 0.0), ('*', 0.5))
    """
    freeze = (freeze,) if isinstance(freeze, str) else freeze
    pairs = rate_scales.items() if isinstance(rate_scales, Mapping) else rate_scales
    return (*((pattern, 0.0) for pattern in freeze), *map(tuple, pairs))


def rate_factors(params, scales: Iterable[tuple[str, float]]):
    """A tree like `params` of what its learning rates are multiplied by: see `scale_rates`."""

    def factor(path):
        return next((factor for pattern, factor in scales if fnmatchcase(path, pattern)), 1.0)

    return jax.tree.map(factor, paths(params))


def scale_rates(
    optimizer: optax.GradientTransformation,
    scales: Mapping[str, float] | Iterable[tuple[str, float]],
) -> optax.GradientTransformation:
    """An optimizer with learning rates of their own for some parameters; those of 0 are frozen.

    What the optimizer changes is multiplied by a factor, the decay with it. Frozen parameters keep
    every bit (but for the sign of a zero within `optax.MultiSteps`), and the optimizer never sees
    them: they take no memory in its state, have no momentum, and do not count in the norm that a
    gradient is clipped by. What is around it does: `optax.MultiSteps`, and so the option
    `accumulate`, keeps their gradients too, as many numbers as they have.

    Args:
      optimizer: an Optax transformation.
      scales: factors, not negative, by patterns of paths such as `head/*` or `*/bias`, where `*`
        matches slashes too. The first pattern that matches a parameter holds; without any its
        factor is 1. Paths are those in the collection `params`, as `backbone/conv1/kernel`.

    Raises: UserError for a negative factor; in `init`, for a pattern that matches no parameter, and
    where no parameter is left to train.

    Reference: Howard and Ruder 2018, "Universal language model fine-tuning for text
    classification", section 3.2 (discriminative rates).

    >>> optimizer = scale_rates(optax.sgd(1.0), {"head/*": 1.0, "*": 0.1})
    >>> params = {"backbone": {"kernel": jnp.zeros(())}, "head": {"kernel": jnp.zeros(())}}
    >>> grads = jax.tree.map(jnp.ones_like, params)
    >>> updates, _ = optimizer.update(grads, optimizer.init(params), params)
    >>> round(float(updates["backbone"]["kernel"]), 3), float(updates["head"]["kernel"])
    (-0.1, -1.0)
    """
    scales = join_scales((), scales)
    for pattern, factor in scales:
        if not factor >= 0:
            raise UserError(f"the rates of {pattern!r} cannot be multiplied by {factor}")
    if any(factor == 0 for _, factor in scales):
        parts = {"trained": optimizer, "frozen": optax.stateless(_keep)}
        optimizer = optax.partition(parts, lambda params: _labels(params, scales))
    optimizer = optax.with_extra_args_support(optimizer)

    def init(params):
        require_matches(params, [pattern for pattern, _ in scales])
        if not any(jax.tree.leaves(rate_factors(params, scales))):
            raise UserError(f"no parameter is left to train: {dict(scales)} freezes all of them")
        return optimizer.init(params)

    def update(updates, state, params=None, **extra):
        updates, state = optimizer.update(updates, state, params, **extra)
        return jax.tree.map(
            lambda x, factor: x * factor, updates, rate_factors(updates, scales)
        ), state

    return optax.GradientTransformationExtraArgs(init, update)


def _labels(params, scales):
    factors = rate_factors(params, scales)
    return jax.tree.map(lambda factor: "trained" if factor else "frozen", factors)


def _keep(updates, params):
    """No change to the last bit: x + (-0) is x even where x is -0."""
    return jax.tree.map(lambda x: jnp.full_like(x, -0.0), updates)


def require_matches(params, patterns: Iterable[str]) -> None:
    """Raises UserError for a pattern that matches no parameter's path."""
    known = jax.tree.leaves(paths(params))
    for pattern in patterns:
        if not any(fnmatchcase(path, pattern) for path in known):
            shown = ", ".join(known[:: max(1, len(known) // 4)][:5])
            raise UserError(f"{pattern!r} matches no parameter; there are {shown}, …")
