"""Initializers: the variance and the range of the papers' equations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convnets import layers

SHAPE = (5, 3, 16, 200)
FAN_IN, FAN_OUT = 5 * 3 * 16, 5 * 3 * 200

CASES = [
    (layers.lecun_normal(), 1 / FAN_IN, "normal"),
    (layers.lecun_uniform(), 1 / FAN_IN, "uniform"),
    (layers.glorot_normal(), 2 / (FAN_IN + FAN_OUT), "normal"),
    (layers.glorot_uniform(), 2 / (FAN_IN + FAN_OUT), "uniform"),
    (layers.he_normal(), 2 / FAN_IN, "normal"),
    (layers.he_uniform(), 2 / FAN_IN, "uniform"),
    (layers.he_normal("fan_out"), 2 / FAN_OUT, "normal"),
    (layers.he_uniform("fan_out"), 2 / FAN_OUT, "uniform"),
    (layers.normal(0.3), 0.09, "normal"),
]


@pytest.mark.parametrize(("initializer", "variance", "distribution"), CASES)
def test_moments_and_range(initializer, variance, distribution):
    values = np.asarray(initializer(jax.random.key(0), SHAPE, jnp.float32)).ravel()
    assert values.dtype == np.float32
    deviation = np.sqrt(variance)
    assert abs(values.mean()) < 5 * deviation / np.sqrt(values.size)
    np.testing.assert_allclose(values.var(), variance, rtol=0.03)
    bound = np.sqrt(3) * deviation
    if distribution == "uniform":
        assert 0.99 * bound < abs(values).max() <= bound * 1.000001
    else:  # nothing is cut off: the usual share lies beyond two deviations
        np.testing.assert_allclose((abs(values) > 2 * deviation).mean(), 0.0455, rtol=0.1)


def test_constants():
    key = jax.random.key(0)
    assert (layers.zeros(key, (3,)) == 0).all()
    assert (layers.ones(key, (3,)) == 1).all()
    assert (layers.constant(0.25)(key, (3,)) == 0.25).all()
