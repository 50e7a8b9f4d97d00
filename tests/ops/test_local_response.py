"""Local response normalization against loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from convnets.ops import local_response_normalization


def normalize_by_loops(x, size, alpha, beta, k):
    y = np.empty_like(x)
    for i in range(x.shape[-1]):
        neighbors = x[..., max(0, i - size // 2) : i + (size - 1) // 2 + 1]
        y[..., i] = x[..., i] / (k + alpha * (neighbors**2).sum(-1)) ** beta
    return y


@pytest.mark.parametrize(
    "options",
    [
        dict(size=5, alpha=1e-4, beta=0.75, k=2.0),
        dict(size=4, alpha=0.5, beta=0.6, k=1.0),
        dict(size=9, alpha=0.1, beta=1.0, k=0.3),
    ],
    ids=str,
)
def test_it_is_the_loop_and_its_gradient_the_finite_differences(options):
    x = 3 * np.random.default_rng(0).normal(size=(2, 2, 3, 7))
    normalize = jax.jit(lambda x: local_response_normalization(x, **options))
    y = normalize(x.astype(np.float32))
    np.testing.assert_allclose(y, normalize_by_loops(x, **options), rtol=1e-5, atol=1e-6)
    with jax.enable_x64(True):
        check_grads(normalize, (x,), order=1, eps=1e-5, atol=1e-7, rtol=1e-7)


def test_the_defaults_are_those_of_the_paper():
    x = np.full((1, 1, 1, 8), 100, np.float32)
    expected = normalize_by_loops(x, size=5, alpha=1e-4, beta=0.75, k=2.0)
    np.testing.assert_allclose(local_response_normalization(x), expected, rtol=1e-5)


def test_dtypes():
    x = jnp.ones((1, 4), jnp.bfloat16)
    assert local_response_normalization(x).dtype == jnp.bfloat16
    with pytest.raises(TypeError, match="int32"):
        local_response_normalization(jnp.ones((1, 4), jnp.int32))
