"""L-BFGS finds the minima that SciPy's finds."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import convnets
from convnets import minimize_lbfgs

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(40, 3)), np.sign(RNG.normal(size=40))


def regression(params):
    """Logistic regression with a little decay."""
    margins = Y.astype(np.float32) * (X.astype(np.float32) @ params["w"] + params["b"])
    return jnp.mean(jnp.logaddexp(0.0, -margins)) + 0.05 * jnp.sum(params["w"] ** 2)


def in_scipy(v):
    return np.mean(np.logaddexp(0.0, -Y * (X @ v[:3] + v[3]))) + 0.05 * np.sum(v[:3] ** 2)


def test_logistic_regression_as_in_scipy():
    expected = scipy.optimize.minimize(in_scipy, np.zeros(4), method="L-BFGS-B", tol=1e-12)
    found = minimize_lbfgs(regression, {"w": jnp.zeros(3), "b": jnp.zeros(())}, tolerance=1e-4)
    assert found.converged
    np.testing.assert_allclose(found.params["w"], expected.x[:3], atol=1e-3)
    np.testing.assert_allclose(found.params["b"], expected.x[3], atol=1e-3)
    assert (np.diff(found.losses) < 0).all()
    assert 2 < len(found.losses) < 30
    np.testing.assert_allclose(found.losses[0], np.log(2), rtol=1e-6)
    np.testing.assert_allclose(found.losses[-1], expected.fun, rtol=1e-6)


def test_it_ends_after_the_steps_or_at_the_floats_end():
    def valley(v):
        return (1 - v[0]) ** 2 + 100 * (v[1] - v[0] ** 2) ** 2

    start = jnp.array([-1.2, 1.0])
    short = minimize_lbfgs(valley, start, steps=3, memory=2)
    assert (len(short.losses), short.converged) == (4, False)
    whole = minimize_lbfgs(valley, start, steps=500, tolerance=0.0)
    assert len(whole.losses) < 200
    np.testing.assert_allclose(whole.params, [1, 1], atol=1e-2)
    there = minimize_lbfgs(valley, jnp.ones(2))
    assert (there.losses.tolist(), there.converged) == ([0.0], True)


def test_a_step_that_raises_the_loss_is_taken_back():
    """At the kink of this valley the line search ends with one."""

    def kinked(v):
        return jnp.sum(jnp.cosh(v)) + jnp.abs(v[0] - v[1])

    found = minimize_lbfgs(kinked, jnp.array([3.0, 2.5, 2.0]), tolerance=0.0)
    assert (len(found.losses) < 100, found.converged) == (True, False)
    assert (np.diff(found.losses) <= 0).all()
    np.testing.assert_allclose(kinked(found.params), found.losses[-1], rtol=2e-7)


@pytest.mark.parametrize(
    ("loss", "options", "message"),
    [
        (lambda x: x, {}, "the loss must be a scalar"),
        (lambda x: jnp.sum(x) * jnp.nan, {}, "finite at the start, it is nan"),
        (jnp.sum, {"steps": 0}, "at least 1"),
        (jnp.sum, {"memory": 0}, "at least 1"),
        (jnp.sum, {"tolerance": -1.0}, "not negative"),
    ],
)
def test_bad_losses_and_numbers_are_refused(loss, options, message):
    with pytest.raises(convnets.UserError, match=message):
        minimize_lbfgs(loss, jnp.ones(2), **options)


@pytest.mark.parametrize("params", [jnp.zeros(2, jnp.int32), {}])
def test_parameters_that_are_no_floats_are_refused(params):
    with pytest.raises(convnets.UserError, match="what is moved are arrays of floats; came"):
        minimize_lbfgs(lambda x: 0.0, params)
