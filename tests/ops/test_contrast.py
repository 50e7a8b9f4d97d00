"""Local contrast normalization against loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from convnets.ops import (
    divisive_normalization,
    local_contrast_normalization,
    subtractive_normalization,
)

OPTIONS = [dict(window=5, sigma=1.3), dict(window=9, sigma=1.591), dict(window=1, sigma=1.0)]


def weighted_mean(image, row, column, window, sigma):
    """Of one pixel's surroundings, over all channels, pixel by pixel."""
    half, total, weights = window // 2, 0.0, 0.0
    height, width, _ = image.shape
    for i in range(max(0, row - half), min(height, row + half + 1)):
        for j in range(max(0, column - half), min(width, column + half + 1)):
            weight = np.exp(-((i - row) ** 2 + (j - column) ** 2) / (2 * sigma**2))
            total += weight * image[i, j].mean()
            weights += weight
    return total / weights


def means(x, **options):
    return np.array(
        [
            [
                [[weighted_mean(image, i, j, **options)] for j in range(x.shape[2])]
                for i in range(x.shape[1])
            ]
            for image in x
        ]
    )


def subtract_by_loops(x, **options):
    return x - means(x, **options)


def divide_by_loops(x, **options):
    deviation = np.sqrt(means(x**2, **options))
    c = deviation.mean((1, 2, 3), keepdims=True)
    return x / np.maximum(c, deviation)


def normalize_by_loops(x, **options):
    return divide_by_loops(subtract_by_loops(x, **options), **options)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(
    ("function", "by_loops"),
    [
        (subtractive_normalization, subtract_by_loops),
        (divisive_normalization, divide_by_loops),
        (local_contrast_normalization, normalize_by_loops),
    ],
    ids=lambda f: f.__name__,
)
def test_it_is_the_loop_and_its_gradient_the_finite_differences(function, by_loops, options):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 6, 7, 3)) * rng.uniform(0.1, 3, (2, 6, 7, 1)) + 2
    run = jax.jit(lambda x: function(x, **options))
    with jax.enable_x64(True):
        np.testing.assert_allclose(run(x), by_loops(x, **options), rtol=1e-9, atol=1e-10)
        check_grads(run, (x,), order=1, eps=1e-5, atol=1e-5, rtol=1e-6)
    np.testing.assert_allclose(
        run(x.astype(np.float32)), by_loops(x, **options), rtol=1e-3, atol=1e-4
    )


def test_brightness_and_contrast_do_not_matter():
    x = np.random.default_rng(1).normal(size=(1, 12, 12, 2)).astype(np.float32)
    expected = local_contrast_normalization(x)
    np.testing.assert_allclose(local_contrast_normalization(5 * x + 3), expected, atol=1e-4)
    dim = local_contrast_normalization(np.concatenate([x, 0.1 * x]))
    np.testing.assert_allclose(dim[1], dim[0], atol=1e-5)  # each image has its own c


@pytest.mark.parametrize("value", [0.0, 0.7])
def test_no_contrast_stays_none_with_a_finite_gradient(value):
    x = jnp.full((1, 8, 8, 3), value)
    y, pull = jax.vjp(local_contrast_normalization, x)
    assert np.abs(y).max() < 1e-2
    assert np.isfinite(pull(jnp.ones_like(y))[0]).all()
    half_empty = x.at[:, :, 4:].set(jnp.arange(8.0).reshape(1, 8, 1, 1))
    gradient = jax.grad(lambda x: (local_contrast_normalization(x, window=3) ** 2).sum())
    assert np.isfinite(gradient(half_empty)).all()


def test_half_precision_and_refusals():
    x = jnp.ones((1, 4, 4, 1), jnp.bfloat16)
    for function in (
        subtractive_normalization,
        divisive_normalization,
        local_contrast_normalization,
    ):
        assert function(x).dtype == jnp.bfloat16
        with pytest.raises(TypeError, match="uint8"):
            function(jnp.ones((1, 4, 4, 1), jnp.uint8))
        with pytest.raises(ValueError, match="B, H, W, C"):
            function(jnp.ones((4, 4, 1)))
        with pytest.raises(ValueError, match="odd window"):
            function(x, window=4)
        with pytest.raises(ValueError, match="positive sigma"):
            function(x, sigma=0.0)
