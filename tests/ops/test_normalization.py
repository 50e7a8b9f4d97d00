"""Moments and normalization against loops in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from convnets.ops import normalization
from convnets.ops.normalization import Moments

from ..spreading import SPREAD, spread

RNG = np.random.default_rng(0)


def moments_in_loops(x, group_size):
    """Mean and biased variance of each group and channel: `[G, C]`, one number at a time."""
    groups, channels = len(x) // group_size, x.shape[-1]
    mean, variance = np.zeros((2, groups, channels))
    for g in range(groups):
        for c in range(channels):
            members = range(g * group_size, (g + 1) * group_size)
            values = [float(value) for i in members for value in x[i, ..., c].ravel()]
            mean[g, c] = sum(values) / len(values)
            variance[g, c] = sum((value - mean[g, c]) ** 2 for value in values) / len(values)
    return mean, variance


@pytest.mark.parametrize("shape", [(6, 3, 2, 4), (6, 4), (2, 5, 3)])
def test_moments_of_the_batch(shape):
    x = RNG.normal(2, 3, shape).astype(np.float32)
    mean, variance = normalization.batch_moments(jnp.asarray(x))
    expected_mean, expected_variance = moments_in_loops(x, len(x))
    np.testing.assert_allclose(mean, expected_mean[0], rtol=1e-5)
    np.testing.assert_allclose(variance, expected_variance[0], rtol=1e-5)


@pytest.mark.parametrize("group_size", [1, 2, 6, 12])
@pytest.mark.parametrize("shape", [(12, 3, 2, 4), (12, 4)])
def test_moments_of_groups(shape, group_size):
    x = RNG.normal(2, 3, shape).astype(np.float32)
    each, followed = normalization.group_moments(jnp.asarray(x), group_size)
    expected = moments_in_loops(x, group_size)
    for name, actual, mean_of_groups, of_groups in zip(Moments._fields, each, followed, expected):
        of_examples = np.repeat(of_groups, group_size, axis=0)
        np.testing.assert_allclose(actual, of_examples, rtol=1e-5, atol=1e-6, err_msg=name)
        np.testing.assert_allclose(mean_of_groups, of_groups.mean(0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("group_size", [None, 4])  # a device holds 3 examples
@pytest.mark.parametrize("way", SPREAD)
def test_devices_agree_on_moments(way, group_size):
    x = (10 * np.arange(24).reshape(-1, 1, 1) + RNG.normal(size=(24, 2, 3))).astype(np.float32)

    def moments(_, x):
        if group_size is None:
            return normalization.batch_moments(x), ()
        each, followed = normalization.group_moments(x, group_size)
        return followed, each

    followed, each = spread(moments, way, (), x)
    expected = moments_in_loops(x, group_size or 24)
    for actual, of_groups in zip(followed, expected):
        np.testing.assert_allclose(actual, of_groups.mean(0), rtol=1e-5)
    for actual, of_groups in zip(each, expected):
        np.testing.assert_allclose(actual, np.repeat(of_groups, group_size, axis=0), rtol=1e-5)


@pytest.mark.parametrize("group_size", [None, 4])
def test_variance_is_exact_far_from_zero(group_size):
    """A mean of squares less the square of the mean would be off by about 0.1."""
    x = RNG.normal(1000, 1, (24, 5, 5, 3)).astype(np.float32)
    if group_size is None:
        mean, variance = normalization.batch_moments(jnp.asarray(x))
    else:
        mean, variance = normalization.group_moments(jnp.asarray(x), group_size)[1]
    expected_mean, expected_variance = moments_in_loops(x, group_size or 24)
    np.testing.assert_allclose(mean, expected_mean.mean(0), rtol=1e-6)
    np.testing.assert_allclose(variance, expected_variance.mean(0), rtol=2e-6)


def test_normalize_by_one_set_or_one_an_example():
    x = RNG.normal(size=(4, 2, 3, 5)).astype(np.float32)
    scale, bias = RNG.normal(size=(2, 5)).astype(np.float32)
    for rows in ((), (4,)):
        mean = RNG.normal(size=(*rows, 5)).astype(np.float32)
        variance = RNG.uniform(0, 2, (*rows, 5)).astype(np.float32)
        y = normalization.normalize(jnp.asarray(x), Moments(mean, variance), scale, bias, 0.1)
        for i, row, column, c in np.ndindex(x.shape):
            at = (i, c) if rows else c
            deviation = np.float64(variance[at] + 0.1) ** 0.5
            expected = scale[c] * (x[i, row, column, c] - mean[at]) / deviation + bias[c]
            assert y[i, row, column, c] == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("group_size", [None, 2])
def test_half_precision_is_computed_in_float32_and_float64_in_float64(group_size):
    x = RNG.normal(1000, 1, (4, 3, 2))

    def moments(x):
        if group_size is None:
            return normalization.batch_moments(x)
        return normalization.group_moments(x, group_size)[1]

    half = jnp.asarray(x, jnp.bfloat16)
    actual = moments(half)
    assert {value.dtype for value in actual} == {jnp.dtype("float32")}
    expected = moments_in_loops(np.asarray(half, np.float64), group_size or 4)
    np.testing.assert_allclose(actual, [value.mean(0) for value in expected], rtol=1e-5)
    with jax.enable_x64(True):
        actual = moments(jnp.asarray(x))
        assert {value.dtype for value in actual} == {jnp.dtype("float64")}
        expected = moments_in_loops(x, group_size or 4)
        np.testing.assert_allclose(actual, [value.mean(0) for value in expected], rtol=1e-12)


@pytest.mark.parametrize("group_size", [5, 48, 0, -4])
def test_groups_that_do_not_divide_the_batch_are_refused_with_the_numbers(group_size):
    with pytest.raises(ValueError, match=rf"24 examples .* groups of {group_size}\b"):
        normalization.group_moments(jnp.zeros((24, 2)), group_size)
    with pytest.raises(ValueError, match=rf"24 examples .* groups of {group_size}\b"):
        jax.vmap(lambda x: normalization.group_moments(x, group_size), axis_name="data")(
            jnp.zeros((8, 3, 2))
        )


@pytest.mark.parametrize("offset", [0, 1000])
def test_moments_and_gradients_far_from_zero_are_those_of_float64(offset):
    x = RNG.normal(offset, 1, (64, 8, 8, 3)).astype(np.float32)
    weights = RNG.normal(size=x.shape).astype(np.float32)
    scale, bias = RNG.normal(1, 0.1, (2, 3)).astype(np.float32)

    def loss(x, scale, bias):
        moments = normalization.batch_moments(x)
        y = normalization.normalize(x, moments, scale, bias, 1e-5)
        return (weights.astype(y.dtype) * jnp.sin(y)).sum(), moments

    gradient = jax.jit(jax.grad(loss, argnums=(0, 1, 2), has_aux=True))
    found, moments = gradient(x, scale, bias)
    with jax.enable_x64(True):
        wide = (jnp.asarray(a, jnp.float64) for a in (x, scale, bias))
        expected, exact = gradient(*wide)
    np.testing.assert_allclose(moments.mean, exact.mean, rtol=1e-6)
    np.testing.assert_allclose(moments.variance, exact.variance, rtol=1e-5)
    for actual, exactly in zip(found, expected):
        largest = np.abs(np.asarray(exactly)).max()
        tolerance = 1e-5 + 6e-7 * offset  # a mean of 1000 is itself rounded to 6e-5
        np.testing.assert_allclose(actual, exactly, rtol=0, atol=tolerance * largest)


@pytest.mark.parametrize("offset", [0.0, 10.0])
def test_derivatives_of_second_order(offset):
    with jax.enable_x64(True):
        x = jnp.asarray(RNG.normal(offset, 1, (5, 2, 2, 3)))
        scale, bias = jnp.asarray(RNG.normal(1, 0.3, (2, 3)))

        def normalize(x, scale, bias):
            moments = normalization.batch_moments(x)
            return jnp.sin(normalization.normalize(x, moments, scale, bias, 1e-3))

        check_grads(normalize, (x, scale, bias), order=2, atol=1e-4, rtol=1e-4)


def test_float64_with_statistics_in_float32():
    with jax.enable_x64(True):
        x = jnp.asarray(RNG.normal(size=(4, 2, 2, 3)))
        moments = Moments(jnp.zeros(3, jnp.float32), jnp.ones(3, jnp.float32))

        def loss(scale):
            return normalization.normalize(x, moments, scale, jnp.zeros(3), 0.0).sum()

        gradient = jax.jit(jax.grad(loss))(jnp.ones(3, jnp.float32))
        np.testing.assert_allclose(gradient, x.sum((0, 1, 2)), rtol=1e-6)


def test_squares_that_overflow():
    x = jnp.full((4, 2, 2, 1), 2.0**65, jnp.float32)  # sums of which are exact in any order
    assert normalization.batch_moments(x).variance.tolist() == [0]
