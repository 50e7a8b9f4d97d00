"""Every gradient written by hand against `jax.vjp` and central differences, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convnets import losses
from convnets.units import backpropagation as hand

SIGNS, TARGET = np.array([1.0, -1.0, -1.0, 1.0]), np.array([0.3, -2.0, 1.0, 0.0])
MODULES = {
    "linear": hand.LINEAR,
    "tanh": hand.TANH,
    "sigmoid": hand.SIGMOID,
    "relu": hand.RELU,
    "sin": hand.SIN,
    "cos": hand.COS,
    "exp": hand.EXP,
    "log": hand.LOG,
    "cube": hand.CUBE,
    "perceptron loss": hand.perceptron_loss(SIGNS),
    "squared error": hand.squared_error(TARGET),
    "likelihood": hand.negative_log_likelihood(2),
}


def differences(function, x, step=1e-6):
    """The gradient of a function of one array by central differences, entry by entry."""
    gradient = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        move = np.zeros_like(x)
        move[place] = step
        gradient[place] = (function(x + move) - function(x - move)) / (2 * step)
    return gradient


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_its_own_derivative(name):
    module, random = MODULES[name], np.random.default_rng(0)
    weights = random.normal(size=(3, 4)) if module.gradient else None
    x = random.uniform(0.1, 2, 4) if name == "log" else random.normal(size=4)
    with jax.enable_x64(True):
        y, transpose = jax.vjp(module.forward, jnp.asarray(x), weights)
        dy = jnp.asarray(random.normal(size=y.shape))
        dx, dw = transpose(dy)
        found = module.backward(dy, x, y, weights)
        np.testing.assert_allclose(found, dx, rtol=1e-14, atol=1e-15)
        by_steps = differences(lambda x: jnp.vdot(dy, module.forward(x, weights)), x)
        np.testing.assert_allclose(found, by_steps, rtol=1e-7, atol=1e-8)
        if weights is not None:
            found = module.gradient(dy, x, y, weights)
            np.testing.assert_allclose(found, dw, rtol=1e-14)
            by_steps = differences(lambda w: jnp.vdot(dy, module.forward(x, w)), weights)
            np.testing.assert_allclose(found, by_steps, rtol=1e-7, atol=1e-8)


def test_losses_are_those_of_the_library():
    x = np.random.default_rng(1).normal(size=4)
    with jax.enable_x64(True):
        for module, expected in (
            (MODULES["perceptron loss"], losses.perceptron_loss(jnp.asarray(x), SIGNS).sum()),
            (MODULES["squared error"], losses.squared_error(x[None], TARGET[None])[0]),
            (MODULES["likelihood"], losses.softmax_cross_entropy(x, 2)),
        ):
            np.testing.assert_allclose(module.forward(jnp.asarray(x), None), expected, rtol=1e-14)


def test_at_the_edges():
    zero = jnp.zeros(4)
    loss = MODULES["perceptron loss"]
    of_library = jax.grad(lambda x: losses.perceptron_loss(x, SIGNS).sum())(zero)
    for gradient in (loss.backward(1.0, zero, 0.0, None), of_library):
        np.testing.assert_array_equal(gradient, -SIGNS)  # not +1 or -1 for both classes
    np.testing.assert_array_equal(hand.RELU.backward(zero + 1, zero, zero, None), 0)
    large = jnp.array([1e4, -1e4, 0.0])
    loss = hand.negative_log_likelihood(1)
    y = loss.forward(large, None)
    assert y == 2e4
    assert loss.backward(1.0, large, y, None).tolist() == [1, -1, 0]


def test_a_chain_of_functions():
    modules, weights = [hand.SIN, hand.CUBE, hand.EXP, hand.COS, hand.LOG], [None] * 5
    with jax.enable_x64(True):
        for x in np.linspace(-1.5, 0.8, 12):
            values = hand.forward_pass(modules, weights, jnp.asarray(x))
            dx, gradients = hand.backward_pass(modules, weights, values)
            s, e = np.sin(x), np.exp(np.sin(x) ** 3)
            assert float(values[-1]) == pytest.approx(np.log(np.cos(e)), rel=1e-13)
            expected = -np.tan(e) * e * 3 * s**2 * np.cos(x)
            assert float(dx) == pytest.approx(expected, rel=1e-12, abs=1e-15)
            assert gradients == [None] * 5


@pytest.mark.parametrize("unit", ["tanh", "sigmoid", "relu"])
def test_a_network_of_two_layers(unit):
    random, z = np.random.default_rng(2), 1
    modules = [hand.LINEAR, MODULES[unit], hand.LINEAR, hand.negative_log_likelihood(z)]
    with jax.enable_x64(True):
        first, second = (jnp.asarray(random.normal(size=size)) for size in ((6, 4), (3, 6)))
        x, weights = jnp.asarray(random.normal(size=4)), [first, None, second, None]

        def network(x, first, second):
            h = {"tanh": jnp.tanh, "sigmoid": jax.nn.sigmoid, "relu": jax.nn.relu}[unit](first @ x)
            return losses.softmax_cross_entropy(second @ h, z)

        values = hand.forward_pass(modules, weights, x)
        np.testing.assert_allclose(values[-1], network(x, first, second), rtol=1e-13)
        dx, gradients = hand.backward_pass(modules, weights, values)
        found = (dx, gradients[0], gradients[2])
        expected = jax.grad(network, argnums=(0, 1, 2))(x, first, second)
        for ours, jaxs in zip(found, expected):
            np.testing.assert_allclose(ours, jaxs, rtol=1e-12, atol=1e-15)
        assert gradients[1] is gradients[3] is None


def test_weights_for_each_module_are_asked_for():
    with pytest.raises(ValueError, match="shorter"):
        hand.forward_pass([hand.TANH, hand.LINEAR], [None], jnp.ones(2))
