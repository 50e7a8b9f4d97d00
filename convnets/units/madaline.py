"""Madaline: two layers of Adalines with hard decisions, learned by trial and error."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


def initialize_madaline(key, inputs: int, hidden: int, outputs: int = 1) -> dict:
    """Random weights of two layers, uniform in -1 to 1; the last row of each is the threshold's.

    Returns: `{"first": [inputs + 1, hidden], "second": [hidden + 1, outputs]}`.
    """
    first, second = jax.random.split(key)
    draw = partial(jax.random.uniform, minval=-1.0, maxval=1.0)
    return {
        "first": draw(first, (inputs + 1, hidden)),
        "second": draw(second, (hidden + 1, outputs)),
    }


def run_madaline(params, x):
    """Decisions -1 or 1 of both layers for inputs `[…, N]`: `([…, hidden], […, outputs])`."""
    h = _decide(_with_one(x) @ params["first"])
    return h, _decide(_with_one(h) @ params["second"])


@partial(jax.jit, static_argnames="epochs")
def train_madaline(params, x, targets, key, *, epochs: int, rate: float = 1.0):
    """Shows all examples in a new order each epoch, and applies `disturb_least` to each.

    Args:
      params: as `initialize_madaline` makes them.
      x: `[M, N]`, floats, -1 or 1.
      targets: `[M, outputs]`, -1 or 1.
      key: of the orders.
      epochs: how often all are shown.
      rate: as of `disturb_least`.

    Returns: `(params, errors [epochs])`: the outputs that are wrong after each epoch, of all
      examples together.

    Raises: ValueError for targets of another shape.

    Reference: Winter, Widrow 1988, "Madaline Rule II: a training algorithm for neural networks".

    >>> from convnets.units import initialize_madaline, run_madaline, train_madaline
    >>> x = jnp.array([[-1.0, -1], [-1, 1], [1, -1], [1, 1]])
    >>> targets = -x[:, :1] * x[:, 1:]  # exclusive or
    >>> params = initialize_madaline(jax.random.key(0), inputs=2, hidden=2)
    >>> params, errors = train_madaline(params, x, targets, jax.random.key(1), epochs=50)
    >>> run_madaline(params, x)[1].ravel().tolist(), errors.tolist()[-1]
    ([-1.0, 1.0, 1.0, -1.0], 0)
    """

    expected = len(x), params["second"].shape[1]
    if targets.shape != expected:
        raise ValueError(f"expected targets [M, outputs] = {expected}, came {targets.shape}")

    def show(params, example):
        return disturb_least(params, *example, rate=rate), None

    def show_all(params, key):
        order = jax.random.permutation(key, len(x))
        after, _ = lax.scan(show, params, (x[order], targets[order]))
        return after, (run_madaline(after, x)[1] != targets).sum()

    return lax.scan(show_all, params, jax.random.split(key, epochs))


def disturb_least(params, x, targets, *, rate: float = 1.0):
    """One example under Madaline Rule II: the least confident units are flipped on trial.

    The hidden units' decisions are flipped one at a time, from the one whose sum is nearest to 0
    on, then two at a time; a flip stays if it leaves fewer outputs wrong. Units that were flipped
    move towards their new decision, and after that the outputs that are still wrong towards their
    targets, by the normalized rule of Adaline: `w += rate (d - w . x) x / |x|^2`. Where nothing is
    wrong nothing changes.

    Args:
      params: as `initialize_madaline` makes them.
      x: one example, `[N]`.
      targets: `[outputs]`, -1 or 1.
      rate: the share of the way to the decision; with 1 the sum is -1 or 1 afterwards.

    Returns: the new params.

    Reference: Winter, Widrow 1988; Widrow, Lehr 1990, "30 years of adaptive neural networks",
    section "Madaline rule II". Differs: no count of how often a unit was used holds others back.
    """
    x = _with_one(x)
    sums = x @ params["first"]
    h, order = _decide(sums), _trials(jnp.abs(sums))

    def wrong(h):
        return _decide(_with_one(h) @ params["second"]) != targets

    def attempt(h, flips):
        flipped = h * flips
        return jnp.where(wrong(flipped).sum() < wrong(h).sum(), flipped, h), None

    decided, _ = lax.scan(attempt, h, order)
    first = _adapt(params["first"], x, decided, decided != h, rate)
    second = _adapt(params["second"], _with_one(decided), targets, wrong(decided), rate)
    return {"first": first, "second": second}


def _trials(confidence):
    """Factors 1 or -1 that flip one unit or two: those of one first, the least confident first."""
    one = np.eye(confidence.size, dtype=bool)
    pairs = [one[i] | one[j] for i in range(len(one)) for j in range(i)]
    chosen = np.array([*one, *pairs])
    together = jnp.where(chosen, confidence[None], 0).sum(1)
    return jnp.where(chosen, -1.0, 1.0)[jnp.lexsort((together, chosen.sum(1)))]


def _adapt(weights, x, decisions, chosen, rate):
    errors = jnp.where(chosen, decisions - x @ weights, 0)
    return weights + rate * jnp.outer(x, errors) / jnp.sum(jnp.square(x))


def _decide(sums):
    return jnp.where(sums > 0, 1.0, -1.0)


def _with_one(x):
    return jnp.concatenate([x, jnp.ones((*x.shape[:-1], 1), x.dtype)], -1)
