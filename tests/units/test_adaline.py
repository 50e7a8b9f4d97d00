"""Least mean squares: the rule by loops, the gradient's sign, and where it ends."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convnets import losses
from convnets.units import train_adaline

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(30, 4))
Y = X @ [1.0, -2.0, 0.5, 0.0] + 0.3 * RANDOM.normal(size=30)


def test_equals_the_rule_by_loops():
    weights, path, step = np.zeros(4), [], 0
    for _ in range(3):
        for x, y in zip(X, Y):
            weights = weights - 0.1 / (1 + step) * (weights @ x - y) * x
            step += 1
        path.append(weights)
    with jax.enable_x64(True):
        found = train_adaline(jnp.asarray(X), Y, rate=lambda step: 0.1 / (1 + step), epochs=3)
        np.testing.assert_allclose(found, path, rtol=1e-12)


def test_a_step_goes_down_the_gradient_of_the_squared_error():
    with jax.enable_x64(True):
        x, y, start = jnp.asarray(X[:1]), Y[:1], jnp.asarray(X[1])
        gradient = jax.grad(lambda w: losses.squared_error(x @ w, jnp.asarray(y)).sum())(start)
        after = train_adaline(x, y, rate=0.01, epochs=1, weights=start)[0]
        np.testing.assert_allclose(after, start - 0.01 * gradient, rtol=1e-12)
        before, then = (abs(float(x[0] @ w) - y[0]) for w in (start, after))
        assert then < before


def test_ends_at_the_least_squares():
    goal = np.linalg.lstsq(X, Y, rcond=None)[0]
    with jax.enable_x64(True):
        x = jnp.asarray(X)
        off = [
            np.linalg.norm(train_adaline(x, Y, rate=rate, epochs=400)[-1] - goal)
            for rate in (0.05, 0.005, lambda step: 3 / (60 + step))
        ]
        exact = train_adaline(x, X @ goal, rate=0.05, epochs=400)[-1]
    assert off[0] > 5 * off[1]
    assert off[2] < 0.1 * off[0]
    np.testing.assert_allclose(exact, goal, rtol=1e-10)  # nothing is left to disagree about


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="came \\(30, 4\\) and \\(29,\\)"):
        train_adaline(X, Y[1:], rate=0.1, epochs=1)


def test_features_of_integers_are_refused():
    with pytest.raises(TypeError, match="expected features of floats, came int32"):
        train_adaline(jnp.array([[1, -1], [1, 1]]), jnp.array([0, 4]), rate=0.5, epochs=1)
