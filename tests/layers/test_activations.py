"""Activations against their formulas in NumPy, and their gradients against finite differences."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from convnets import layers

X = np.random.default_rng(0).normal(scale=3, size=(2, 3, 4))

FORMULAS = {
    "tanh": np.tanh,
    "scaled_tanh": lambda x: 1.7159 * np.tanh(2 * x / 3),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "relu": lambda x: np.where(x > 0, x, 0),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "elu": lambda x: np.where(x > 0, x, np.exp(x) - 1),
    "selu": lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * (np.exp(x) - 1)),
    "relu6": lambda x: np.minimum(np.maximum(x, 0), 6),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "gelu": lambda x: x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2,
    "hard_sigmoid": lambda x: np.minimum(np.maximum(x / 6 + 0.5, 0), 1),
    "hard_swish": lambda x: x * np.minimum(np.maximum(x / 6 + 0.5, 0), 1),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_it_is_the_formula_and_its_gradient_the_finite_differences(name):
    activation = jax.jit(getattr(layers, name))
    y = activation(X.astype(np.float32))
    assert y.dtype == jnp.float32
    np.testing.assert_allclose(y, FORMULAS[name](X), rtol=1e-5, atol=1e-6)
    with jax.enable_x64(True):
        check_grads(activation, (X,), order=1, eps=1e-5, atol=1e-8, rtol=1e-8)
    assert activation(jnp.ones(2, jnp.bfloat16)).dtype == jnp.bfloat16


def test_the_parameters_of_the_formulas():
    np.testing.assert_allclose(layers.leaky_relu(X, 0.3), np.where(X > 0, X, 0.3 * X), rtol=1e-5)
    np.testing.assert_allclose(
        layers.elu(X, 0.5), np.where(X > 0, X, 0.5 * (np.exp(X) - 1)), rtol=1e-5, atol=1e-6
    )
    assert jax.grad(layers.relu)(0.0) == 0
    assert abs(layers.scaled_tanh(jnp.array([-1.0, 1.0])) - jnp.array([-1.0, 1.0])).max() < 1e-4


def test_prelu_learns_a_slope_for_each_channel():
    x = X.astype(np.float32)
    y, variables = layers.PReLU().init_with_output(jax.random.key(0), x)
    assert variables["params"]["slope"].tolist() == [0.25] * 4
    np.testing.assert_allclose(y, np.where(x > 0, x, 0.25 * x), rtol=1e-6)
    slopes = {"params": {"slope": np.array([-1.0, 0.0, 0.5, 2.0])}}
    with jax.enable_x64(True):
        expected = np.where(X > 0, X, X * slopes["params"]["slope"])
        np.testing.assert_allclose(layers.PReLU().apply(slopes, X), expected, rtol=1e-12)
        apply = jax.jit(layers.PReLU().apply)
        check_grads(apply, (slopes, X), order=1, eps=1e-5, atol=1e-8, rtol=1e-8)
    half = layers.PReLU().apply(variables, x.astype(jnp.bfloat16))
    assert half.dtype == jnp.bfloat16
    with pytest.raises(TypeError, match="int32"):
        layers.PReLU().apply(variables, jnp.ones((2, 4), jnp.int32))
