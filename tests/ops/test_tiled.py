"""Tiled convolution between its two ends: a convolution, and a locally connected layer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convnets.errors import UserError
from convnets.ops import convolve, convolve_locally, convolve_tiled


def draw(*shape):
    return jnp.asarray(np.random.default_rng(len(shape)).normal(size=shape), jnp.float32)


@pytest.mark.parametrize("stride", [1, 2, (1, 3)])
@pytest.mark.parametrize("padding", [0, (1, 2)])
def test_a_period_of_one_is_a_convolution(stride, padding):
    x, kernel = draw(2, 7, 9, 3), draw(3, 2, 3, 4)
    np.testing.assert_allclose(
        convolve_tiled(x, kernel[None, None], stride=stride, padding=padding),
        convolve(x, kernel, stride=stride, padding=padding),
        rtol=1e-5,
        atol=1e-5,
    )


@pytest.mark.parametrize("period", [2, 3, 5])
@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (2, 1)])
def test_a_pixel_has_the_kernel_of_its_place_in_the_period(period, stride, padding):
    x, kernel = draw(2, 8, 7, 2), draw(period, period, 3, 3, 2, 4)
    y = convolve_tiled(x, kernel, stride=stride, padding=padding)
    rows, columns = (jnp.arange(n) % period for n in y.shape[1:3])
    own = kernel[rows[:, None], columns[None]]  # a kernel for each pixel
    expected = convolve_locally(x, own, stride=stride, padding=padding)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


def test_the_gradient_of_a_kernel_is_the_sum_over_its_pixels():
    x, kernel = draw(1, 6, 6, 1), draw(2, 2, 3, 3, 1, 2)
    tiled = jax.grad(lambda kernel: jnp.sum(jnp.sin(convolve_tiled(x, kernel))))(kernel)
    places = jnp.arange(4) % 2
    local = jax.grad(
        lambda kernel: jnp.sum(jnp.sin(convolve_locally(x, kernel[places[:, None], places[None]])))
    )(kernel)
    np.testing.assert_allclose(tiled, local, rtol=1e-5, atol=1e-5)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="expected a kernel"):
        convolve_tiled(jnp.ones((1, 5, 5, 1)), jnp.ones((2, 3, 3, 3, 1, 1)))
    with pytest.raises(UserError, match="at least 3x3"):
        convolve_tiled(jnp.ones((1, 2, 2, 1)), jnp.ones((1, 1, 3, 3, 1, 1)))
