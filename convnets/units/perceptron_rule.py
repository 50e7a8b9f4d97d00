"""Rosenblatt's perceptron: what is wrong is added, and the mistakes are numbered."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from .requirements import require_examples


@partial(jax.jit, static_argnames="epochs")
def train_perceptron(features, labels, *, epochs: int, weights=None):
    """Shows the examples one after the other until none is wrong any more.

    `w += y phi` where `y w . phi <= 0`; else `w` stays as it is. That is a step of rate 1 down the
    gradient of `losses.perceptron_loss`, example by example.

    Args:
      features: `[N, D]`, floats: what the associative area makes of the inputs. A column of ones
        gives the threshold.
      labels: `[N]`, -1 or 1. (Several classes: `jax.vmap` over labels of one class against the
        rest; the largest `w . phi` answers.)
      epochs: how often they are shown at most.
      weights: `[D]`, where to begin; None for zeros.

    Returns: `(weights [D], mistakes [epochs])`: the mistakes of each epoch, 0 after one without.
      If the last is not 0 the examples may not be separable.

    Raises: ValueError for shapes that do not fit.

    Reference: Rosenblatt 1962, "Principles of neurodynamics", section 5.3; Novikoff 1962.

    >>> from convnets.units import train_perceptron
    >>> features = jnp.array([[1.0, 0, 0], [1, 0, 1], [1, 1, 0], [1, 1, 1]])
    >>> weights, mistakes = train_perceptron(features, jnp.array([-1, -1, -1, 1]), epochs=20)
    >>> jnp.sign(features @ weights).tolist()[1:], mistakes.tolist()[-1]
    ([-1.0, -1.0, 1.0], 0)
    """
    require_examples(features, labels, floats=False)
    if epochs < 1:
        raise ValueError(f"the examples are shown at least once, not {epochs} times")
    if weights is None:
        weights = jnp.zeros(features.shape[1], features.dtype)
    labels = labels.astype(features.dtype)

    def show(weights, example):
        x, y = example
        wrong = y * (weights @ x) <= 0
        return weights + jnp.where(wrong, y, 0) * x, wrong

    def show_all(carry):
        epoch, weights, mistakes = carry
        weights, wrong = lax.scan(show, weights, (features, labels))
        return epoch + 1, weights, mistakes.at[epoch].set(wrong.sum())

    def goes_on(carry):
        epoch, _, mistakes = carry
        return (epoch < epochs) & ((epoch == 0) | (mistakes[epoch - 1] > 0))

    start = 0, weights, jnp.zeros(epochs, int)
    _, weights, mistakes = lax.while_loop(goes_on, show_all, start)
    return weights, mistakes


def mistake_bound(features, labels, separator):
    """`(R / gamma)^2`: no order of the examples makes the perceptron err more often.

    It holds for a perceptron that begins with zeros, whatever separates the examples; the least
    bound is that of the largest margin, of a hard-margin support vector machine without intercept.

    Args:
      features: `[N, D]`.
      labels: `[N]`, -1 or 1.
      separator: `[D]`, of any length but 0.

    Returns: the squared ratio of the longest example `R` and the margin `gamma`, the least
      `y w . phi / |w|`; infinite where the separator does not separate.

    Raises: ValueError for shapes that do not fit.

    Reference: Novikoff 1962, "On convergence proofs on perceptrons".

    >>> from convnets.units import mistake_bound
    >>> mistake_bound(jnp.eye(3), jnp.array([1, -1, 1]), jnp.array([2.0, -2.0, 2.0])).item()
    3.0
    """
    require_examples(features, labels, floats=False)
    margins = labels.astype(features.dtype) * (features @ separator)
    smallest = jnp.min(margins)
    longest = jnp.max(jnp.sum(jnp.square(features), 1))
    bound = longest * jnp.sum(jnp.square(separator)) / jnp.square(smallest)
    return jnp.where(smallest > 0, bound, jnp.inf)
