"""Sharpness-aware gradients against the formula, on one device and on many."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import convnets
from convnets.training import gradient, make_step, sharpness_aware

from ..spreading import spread

RNG = np.random.default_rng(0)
BATCH = {"x": RNG.normal(size=(16, 3)).astype(np.float32), "y": np.float32(RNG.normal(size=16))}


def loss_fn(params, batch_stats, batch, key):
    """A noisy logistic regression; the key draws one value an example."""
    keys = convnets.ops.collective.example_keys(key, len(batch["x"]))
    noise = jax.vmap(jax.random.normal)(keys)
    values = jnp.logaddexp(0.0, batch["y"] * (batch["x"] @ params["w"] + params["b"]) + noise)
    loss = convnets.weighted_mean(values)
    seen = convnets.ops.collective.mean_over_data(jnp.mean(values))
    metrics = {"loss": (values.sum(), jnp.int32(len(values)))}
    bias = convnets.ops.collective.mean_over_data(params["b"])
    return loss, ({"seen": seen, "bias": bias}, metrics)


def make_state():
    variables = {"params": {"w": jnp.array([1.0, -1.0, 0.5]), "b": jnp.ones(())}}
    variables["batch_stats"] = {"seen": jnp.zeros(()), "bias": jnp.zeros(())}
    return convnets.TrainState.create(variables, optax.sgd(1.0), jax.random.key(1))


def slopes(w, b, noise):
    x, y = BATCH["x"].astype(float), BATCH["y"].astype(float)
    weights = y / (1 + np.exp(-(y * (x @ w + b) + noise))) / len(y)
    return weights @ x, weights.sum()


def noise_of(state):
    key = jax.random.fold_in(state.key, 0)
    keys = convnets.ops.collective.example_keys(key, 16)
    return np.asarray(jax.jit(jax.vmap(jax.random.normal))(keys), float)


@pytest.mark.parametrize("frozen", [False, True])
def test_equals_the_formula(frozen):
    state = make_state()
    w, b, noise = np.array([1.0, -1.0, 0.5]), 1.0, noise_of(state)
    of_w, of_b = slopes(w, b, noise)
    of_w = of_w * (not frozen)
    scale = 0.3 / np.sqrt(np.sum(of_w**2) + of_b**2)
    expected = slopes(w + scale * of_w, b + scale * of_b, noise)
    scales = [("w", 0.0)] if frozen else ()
    climbed = jax.jit(sharpness_aware(gradient(loss_fn), 0.3, scales=scales))
    grads, batch_stats, metrics = climbed(state, BATCH)
    np.testing.assert_allclose(grads["w"], expected[0], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(grads["b"], expected[1], rtol=1e-5)
    plain, of_plain, loss = jax.jit(gradient(loss_fn))(state, BATCH)
    assert np.abs(plain["w"] - grads["w"]).max() > 1e-3
    assert float(batch_stats["bias"]) == 1.0  # of the first pass
    np.testing.assert_allclose(batch_stats["seen"], of_plain["seen"], rtol=1e-6)
    np.testing.assert_allclose(metrics["loss"][0], loss["loss"][0], rtol=1e-6)


@pytest.mark.parametrize("way", ["jit", "shard_map", "pmap"])
def test_gives_the_same_numbers_however_the_batch_is_shared(way):
    def climb(state, batch):
        return sharpness_aware(gradient(loss_fn), 0.3)(state, batch), batch["y"]

    state = make_state()
    noise = noise_of(state)
    of_w, of_b = slopes(np.array([1.0, -1.0, 0.5]), 1.0, noise)
    scale = 0.3 / np.sqrt(np.sum(of_w**2) + of_b**2)
    of_w, of_b = slopes(np.array([1.0, -1.0, 0.5]) + scale * of_w, 1.0 + scale * of_b, noise)
    (grads, batch_stats, metrics), _ = spread(climb, way, state, BATCH)
    np.testing.assert_allclose(np.reshape(grads["w"], (-1, 3))[0], of_w, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(np.ravel(grads["b"])[0], of_b, rtol=1e-5)
    assert np.ravel(metrics["loss"][1])[0] == 16
    loss = np.ravel(metrics["loss"][0])[0]
    np.testing.assert_allclose(np.ravel(batch_stats["seen"])[0], loss / 16, rtol=1e-5)


def test_a_step_takes_the_gradient_above_and_the_loss_below():
    def wrap(gradient_fn):
        return sharpness_aware(gradient_fn, 0.3)

    optimizer, state = optax.sgd(1.0), make_state()
    after, metrics = jax.jit(make_step(loss_fn, optimizer, wrap_gradient=wrap))(state, BATCH)
    grads, _, loss = jax.jit(sharpness_aware(gradient(loss_fn), 0.3))(state, BATCH)
    np.testing.assert_allclose(after.params["w"], state.params["w"] - grads["w"], rtol=1e-6)
    np.testing.assert_allclose(metrics["loss"][0], loss["loss"][0], rtol=1e-6)
    assert int(after.step) == 1


def test_at_a_minimum_it_stays():
    def flat(params, batch_stats, batch, key):
        return 0.0 * params["w"].sum(), (batch_stats, {"loss": (0.0, 1)})

    grads, _, _ = sharpness_aware(gradient(flat), 0.3)(make_state(), {})
    assert grads["w"].tolist() == [0, 0, 0]


def test_the_radius_is_positive():
    with pytest.raises(convnets.UserError, match="radius of the climb must be positive"):
        sharpness_aware(gradient(loss_fn), 0.0)
