"""Logistic regression and the linear SVM beside scikit-learn, and the lecture's gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from optax.losses import hinge_loss
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from convnets import losses, units


def digits():
    data = load_digits()
    keep = np.isin(data.target, (3, 8))
    x = np.concatenate([data.data[keep] / 16, np.ones((keep.sum(), 1))], 1)
    return x, np.where(data.target[keep] == 3, 1, -1)


def test_the_gradient_is_that_of_the_lecture():
    x = np.random.default_rng(0).normal(size=5)
    w = np.random.default_rng(1).normal(size=5)
    p = 1 / (1 + np.exp(-w @ x))
    with jax.enable_x64(True):
        of = jax.grad(lambda w, y: losses.logistic_loss(jnp.asarray(x) @ w, y))
        np.testing.assert_allclose(of(jnp.asarray(w), 1.0), (p - 1) * x, rtol=1e-12)
        np.testing.assert_allclose(of(jnp.asarray(w), -1.0), p * x, rtol=1e-12)
        both = jax.grad(units.linear_objective)(
            jnp.asarray(w), jnp.asarray(x)[None], jnp.ones(1), loss=losses.logistic_loss, strength=3
        )
        np.testing.assert_allclose(both, w + 3 * (p - 1) * x, rtol=1e-12)


@pytest.mark.parametrize("strength", [0.01, 1.0])
def test_logistic_regression_ends_where_scikit_learn_does(strength):
    x, y = digits()
    with jax.enable_x64(True):
        found = units.train_logistic_regression(jnp.asarray(x), y, strength=strength)
        weights, slopes = map(np.asarray, found)
    peer = LogisticRegression(C=strength, fit_intercept=False, tol=1e-10, max_iter=10_000)
    goal = peer.fit(x, y).coef_[0]
    assert slopes[-1] < 1e-10 < slopes[0]
    assert np.linalg.norm(weights - goal) < 1e-5 * np.linalg.norm(goal)


@pytest.mark.parametrize("strength", [0.01, 1.0])
def test_the_svm_ends_where_scikit_learn_does(strength):
    x, y = digits()
    with jax.enable_x64(True):
        found = units.train_linear_svm(
            jnp.asarray(x), y, jax.random.key(0), strength=strength, epochs=1000
        )
        weights, gaps = map(np.asarray, found)
        options = dict(loss=hinge_loss, strength=strength)
        peer = LinearSVC(
            C=strength, loss="hinge", fit_intercept=False, tol=1e-10, max_iter=1_000_000
        )
        goal = peer.fit(x, y).coef_[0]
        value, least = (
            float(units.linear_objective(jnp.asarray(w), x, y, **options)) for w in (weights, goal)
        )
    assert (gaps > -1e-12).all()  # no primal objective is below a dual one
    assert value - least <= gaps[-1] + 1e-9
    assert gaps[-1] < 1e-3 * least
    assert np.linalg.norm(weights - goal) < 1e-3 * np.linalg.norm(goal)


def test_a_step_that_goes_too_far_is_halved():
    """Newton's first step from 0 overshoots where examples are strong and far from 0."""
    x, y = np.float32([[30.0], [-1.0]]), np.array([1, 1])
    weights, slopes = units.train_logistic_regression(x, y, strength=50.0, steps=40)
    best = min(
        np.linspace(-2, 2, 40001),
        key=lambda w: 0.5 * w**2 + 50 * np.logaddexp(0, -30 * w) + 50 * np.logaddexp(0, w),
    )
    assert abs(weights[0] - best) < 1e-3
    assert slopes[-1] < 1e-2


def test_what_does_not_fit_is_refused():
    x, y = digits()
    with pytest.raises(ValueError, match="expected features \\[N, D\\] and labels \\[N\\]"):
        units.train_logistic_regression(x, y[1:], strength=1.0)
