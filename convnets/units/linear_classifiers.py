"""Logistic regression and the linear support vector machine, each by a method that ends exactly."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from optax.losses import hinge_loss

from ..losses import logistic_loss
from .requirements import require_examples


def linear_objective(weights, features, labels, *, loss, strength):
    """`1/2 |w|^2 + strength sum_i loss(w . x_i, y_i)`.

    Args:
      weights: `[D]`; all of them count in `|w|`, that of a column of ones too.
      features: `[N, D]`.
      labels: `[N]`, -1 or 1.
      loss: `([N], [N]) -> [N]`: `losses.logistic_loss`, `optax.losses.hinge_loss`, …
      strength: of the examples against the norm; scikit-learn's `C`.

    Raises: ValueError for shapes that do not fit.

    Reference: Ranzato 2012, the slides "Linear classifier", lambda for `strength`; summed over the
    examples, as in Fan et al. 2008, "LIBLINEAR", equation 1.

    >>> from convnets.units import linear_objective
    >>> from optax.losses import hinge_loss
    >>> x, y = jnp.array([[1.0], [2.0]]), jnp.array([1.0, -1.0])
    >>> linear_objective(jnp.array([2.0]), x, y, loss=hinge_loss, strength=10.0).item()
    52.0
    """
    require_examples(features, labels)
    losses = loss(features @ weights, labels.astype(features.dtype))
    return 0.5 * jnp.sum(jnp.square(weights)) + strength * losses.sum()


@partial(jax.jit, static_argnames="steps")
def train_logistic_regression(features, labels, *, strength: float, steps: int = 20):
    """The least `linear_objective` with the logistic loss, by Newton's method.

    Its gradient is `w - strength sum_i (1 - p_i) y_i x_i` with `p_i = 1 / (1 + exp(-y_i w . x_i))`,
    which is Ranzato's `(p - 1) x` for `y = 1`; its Hessian `1 + strength sum_i p_i (1 - p_i) x_i
    x_i^T`. A step is halved until it goes down.

    Args:
      features: `[N, D]`, floats.
      labels: `[N]`, -1 or 1.
      strength: as of `linear_objective`.
      steps: of Newton's method; each solves a system of D equations.

    Returns: `(weights [D], slopes [steps])`: the length of the gradient before each step.

    Reference: Ranzato 2012, "Logistic regression: computing gradients"; Nocedal, Wright 2006,
    algorithm 3.1 and section 3.3.

    >>> from convnets.units import train_logistic_regression
    >>> x, y = jnp.array([[1.0, 0.0], [0.0, 1.0]]), jnp.array([1.0, -1.0])
    >>> weights, slopes = train_logistic_regression(x, y, strength=2.0)
    >>> [round(w, 3) for w in weights.tolist()], bool(slopes[-1] < 1e-6)
    ([0.675, -0.675], True)
    """
    require_examples(features, labels)
    labels = labels.astype(features.dtype)
    objective = partial(
        linear_objective, features=features, labels=labels, loss=logistic_loss, strength=strength
    )

    def step(weights, _):
        p = jax.nn.sigmoid(labels * (features @ weights))
        gradient = weights - strength * ((1 - p) * labels) @ features
        curved = (features * (p * (1 - p))[:, None]).T @ features
        hessian = jnp.eye(len(weights), dtype=weights.dtype) + strength * curved
        direction = -jnp.linalg.solve(hessian, gradient)
        here, slope = objective(weights), gradient @ direction

        def too_far(size):
            return (objective(weights + size * direction) > here + 1e-4 * size * slope) & (
                size > 1e-6
            )

        size = lax.while_loop(too_far, lambda size: size / 2, jnp.ones((), weights.dtype))
        return weights + size * direction, jnp.linalg.norm(gradient)

    return lax.scan(step, jnp.zeros(features.shape[1], features.dtype), length=steps)


@partial(jax.jit, static_argnames="epochs")
def train_linear_svm(features, labels, key, *, strength: float, epochs: int):
    """The least `linear_objective` with the hinge loss, example by example.

    The solution is `w = sum_i a_i y_i x_i` with `0 <= a_i <= strength`. Each example in turn sets
    its own `a_i` to the best value, as the perceptron would, but with a margin, a step of the right
    size and a memory: `a_i += (1 - y_i w . x_i) / |x_i|^2`, cut off at both ends, and `w` follows.

    Args:
      features: `[N, D]`, floats; no row of zeros.
      labels: `[N]`, -1 or 1.
      key: of the order, a new one each epoch.
      strength: as of `linear_objective`.
      epochs: how often all examples are shown.

    Returns: `(weights [D], gaps [epochs])`: how far the objective may be from its least after each
      epoch, which is its distance to the dual objective `sum_i a_i - 1/2 |w|^2`.

    Reference: Hsieh et al. 2008, "A dual coordinate descent method for large-scale linear SVM",
    algorithm 1. Differs: no shrinking.

    >>> from convnets.units import train_linear_svm
    >>> x, y = jnp.array([[1.0, 0.0], [0.0, 2.0]]), jnp.array([1.0, -1.0])
    >>> weights, gaps = train_linear_svm(x, y, jax.random.key(0), strength=9.0, epochs=2)
    >>> weights.tolist(), gaps.tolist()
    ([1.0, -0.5], [0.0, 0.0])
    """
    require_examples(features, labels)
    labels = labels.astype(features.dtype)
    squares = jnp.sum(jnp.square(features), 1)

    def show(carry, number):
        weights, a = carry
        x, y = features[number], labels[number]
        best = a[number] + (1 - y * (weights @ x)) / squares[number]
        best = jnp.clip(best, 0, strength)
        return (weights + (best - a[number]) * y * x, a.at[number].set(best)), None

    def show_all(carry, key):
        carry, _ = lax.scan(show, carry, jax.random.permutation(key, len(labels)))
        weights, a = carry
        options = dict(loss=hinge_loss, strength=strength)
        primal = linear_objective(weights, features, labels, **options)
        return carry, primal - (a.sum() - 0.5 * jnp.sum(jnp.square(weights)))

    start = jnp.zeros(features.shape[1], features.dtype), jnp.zeros_like(labels)
    (weights, _), gaps = lax.scan(show_all, start, jax.random.split(key, epochs))
    return weights, gaps
