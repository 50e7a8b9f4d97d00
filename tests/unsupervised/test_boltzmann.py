"""Boltzmann machines against sums over all their states."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convnets.errors import UserError
from convnets.ops import convolve
from convnets.unsupervised import RBM, ConvolutionalRBM

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)


def binary(length):
    return np.array(list(itertools.product([0, 1], repeat=length)), np.float32)


def randomly(variables, scale=1.0):
    return jax.tree.map(lambda x: jnp.asarray(scale * RNG.normal(size=x.shape), x.dtype), variables)


def machine(visible):
    model = RBM(3, visible)
    return model, randomly(model.init(KEY, jnp.ones((1, 2, 2, 1)), train=False)["params"])


def energies(params, v, visible):
    """`[visible states, hidden states]`."""
    h = binary(3)
    w, b, c = (np.asarray(params[n]) for n in ("kernel", "visible_bias", "hidden_bias"))
    own = 0.5 * ((v - b) ** 2).sum(1) if visible == "gaussian" else -v @ b
    return own[:, None] - v @ w @ h.T - (h @ c)[None]


@pytest.mark.parametrize("visible", ["binary", "gaussian"])
def test_free_energy_and_hidden_units_by_enumeration(visible):
    model, params = machine(visible)
    v = RNG.normal(size=(5, 4)) if visible == "gaussian" else binary(4)
    weights = np.exp(-energies(params, v, visible))
    images = jnp.asarray(v.reshape(-1, 2, 2, 1), jnp.float32)
    np.testing.assert_allclose(
        model.free_energy(params, images), -np.log(weights.sum(1)), rtol=1e-4, atol=1e-4
    )
    expected = weights @ binary(3) / weights.sum(1, keepdims=True)
    np.testing.assert_allclose(model.expect_hidden(params, images), expected, rtol=1e-4)


def test_the_likelihood_of_all_binary_images_sums_to_one():
    model, params = machine("binary")
    images = jnp.asarray(binary(4).reshape(-1, 2, 2, 1))
    logs = model.log_likelihood(params, images)
    np.testing.assert_allclose(jnp.exp(logs).sum(), 1, rtol=1e-4)


def test_the_density_of_gaussian_images_integrates_to_one():
    model = RBM(2, "gaussian")
    params = randomly(model.init(KEY, jnp.ones((1, 1, 2, 1)), train=False)["params"])
    line = np.linspace(-12, 12, 241)
    grid = np.stack(np.meshgrid(line, line), -1).reshape(-1, 1, 2, 1)
    density = np.exp(model.log_likelihood(params, jnp.asarray(grid, jnp.float32)))
    np.testing.assert_allclose(density.sum() * (line[1] - line[0]) ** 2, 1, rtol=1e-3)


def test_visible_units_given_hidden_ones():
    model, params = machine("binary")
    v, h = binary(4), binary(3)
    weights = np.exp(-energies(params, v, "binary"))
    expected = (weights / weights.sum(0)).T @ v
    np.testing.assert_allclose(model.expect_visible(params, h), expected, rtol=1e-4, atol=1e-5)


def test_long_gibbs_sampling_has_the_model_s_frequencies():
    from convnets.unsupervised.contrastive import run_chains

    model, params = machine("binary")
    params = jax.tree.map(lambda x: 0.7 * x, params)
    begin = jnp.zeros((20000, 2, 2, 1))
    keys = jax.random.split(KEY, 20000)
    samples = np.asarray(run_chains(keys, model, params, begin, 30)).reshape(-1, 4)
    found = np.bincount((samples @ [8, 4, 2, 1]).astype(int), minlength=16) / 20000
    expected = np.exp(model.log_likelihood(params, jnp.asarray(binary(4).reshape(-1, 2, 2, 1))))
    np.testing.assert_allclose(found, expected, atol=5 * np.sqrt(0.25 / 20000))


def test_too_many_states_are_refused():
    model = RBM(21)
    params = model.init(KEY, jnp.ones((1, 2, 2, 1)), train=False)["params"]
    with pytest.raises(UserError, match="at most 20 hidden units"):
        model.log_likelihood(params, jnp.ones((1, 2, 2, 1)))
    with pytest.raises(UserError, match="kind of visible units"):
        RBM(2, "bernoulli").init(KEY, jnp.ones((1, 2, 2, 1)), train=False)


@pytest.mark.parametrize("visible", ["binary", "gaussian"])
def test_a_convolutional_machine_by_enumeration(visible):
    model = ConvolutionalRBM(1, 2, 2, visible)
    images = jnp.asarray(RNG.random((3, 3, 3, 1)), jnp.float32)
    params = randomly(model.init(KEY, images, train=False)["params"])
    inputs = np.asarray(convolve(images, params["kernel"])) + np.asarray(params["hidden_bias"])
    states = np.concatenate([np.zeros((1, 4)), np.eye(4)])  # at most one unit of the block
    bias = float(params["visible_bias"][0])
    x = np.asarray(images)
    own = (
        0.5 * ((x - bias) ** 2).sum((1, 2, 3))
        if visible == "gaussian"
        else -bias * x.sum((1, 2, 3))
    )
    weights = np.exp(inputs.reshape(3, 4) @ states.T)
    np.testing.assert_allclose(
        model.free_energy(params, images), own - np.log(weights.sum(1)), rtol=1e-4, atol=1e-4
    )
    found = model.apply({"params": params}, images, train=False)
    np.testing.assert_allclose(found["code"].ravel(), 1 - weights[:, 0] / weights.sum(1), rtol=1e-4)
    # The mean of the visible units is the derivative of their part of the energy.
    units = jnp.asarray(RNG.random((3, 2, 2, 1)), jnp.float32)

    def interaction(v):
        return (units * convolve(v, params["kernel"])).sum() + (bias * v).sum()

    expected = jax.grad(interaction)(images)
    expected = expected if visible == "gaussian" else jax.nn.sigmoid(expected)
    np.testing.assert_allclose(model.expect_visible(params, units), expected, rtol=1e-4)
