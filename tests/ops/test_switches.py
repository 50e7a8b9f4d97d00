"""Pooling with switches against `max_pool`, and unpooling against its gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convnets.ops import max_pool, max_pool_with_switches, unpool

CASES = [
    ((6, 6), 2, None, 0, False),
    ((7, 5), 3, 2, 1, False),
    ((7, 6), 3, 2, 0, True),
    ((5, 8), (2, 3), (1, 2), (1, 1), False),
    ((4, 4), 4, 4, 2, True),
]


@pytest.mark.parametrize(("size", "window", "stride", "padding", "ceil_mode"), CASES)
def test_values_places_and_the_way_back(size, window, stride, padding, ceil_mode):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.integers(-3, 3, (2, *size, 3)), jnp.float32)  # with many equal maxima
    options = dict(stride=stride, padding=padding, ceil_mode=ceil_mode)
    y, switches = max_pool_with_switches(x, window, **options)
    expected, pull_back = jax.vjp(lambda x: max_pool(x, window, **options), x)
    np.testing.assert_array_equal(y, expected)
    flat = np.asarray(x).reshape(2, -1, 3)
    found = np.take_along_axis(flat, np.asarray(switches).reshape(2, -1, 3), 1)
    np.testing.assert_array_equal(found.reshape(y.shape), y)
    cotangent = jnp.asarray(rng.normal(size=y.shape), jnp.float32)
    np.testing.assert_allclose(
        unpool(cotangent, switches, size), pull_back(cotangent)[0], rtol=1e-6, atol=1e-6
    )


def test_the_gradient_goes_to_the_place_of_the_switch():
    x = jnp.array([1.0, 4.0, 2.0, 3.0]).reshape(1, 2, 2, 1)
    gradient = jax.grad(lambda x: max_pool_with_switches(x, 2)[0].sum())(x)
    assert gradient.ravel().tolist() == [0, 1, 0, 0]


def test_values_that_no_comparison_finds():
    nothing = jnp.full((1, 3, 3, 1), -jnp.inf)
    y, switches = max_pool_with_switches(nothing, 2, 1, 1)
    assert np.isneginf(y).all()
    assert switches.min() >= 0
    assert switches.max() < 9
    x = jnp.ones((1, 2, 2, 1)).at[0, 1, 0, 0].set(jnp.nan)
    y, switches = max_pool_with_switches(x, 2)
    assert np.isnan(y).all()
    assert switches.item() == 2


def test_what_does_not_fit_is_refused():
    with pytest.raises(TypeError, match="int32"):
        max_pool_with_switches(jnp.ones((1, 2, 2, 1), jnp.int32), 2)
    with pytest.raises(ValueError, match="differ in shape"):
        unpool(jnp.ones((1, 2, 2, 1)), jnp.ones((1, 2, 2, 2), int), 4)
