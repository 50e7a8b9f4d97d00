"""Hill climbing keeps a random change where the loss is lower, and only there."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import convnets
from convnets.training import make_hill_climbing_step

X = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)


def quadratic(params, batch_stats, batch, key):
    values = jnp.sum(jnp.square(batch["x"] - params["w"][None]), axis=1)
    metrics = {"loss": (values.sum(), jnp.int32(len(values)))}
    return convnets.weighted_mean(values), ({"last": params["w"][0]}, metrics)


def make_state(**kwargs):
    variables = {"params": {"w": jnp.ones(3)}, "batch_stats": {"last": jnp.zeros(())}}
    key = jax.random.key(2)
    return convnets.TrainState.create(variables, optax.identity(), key, **kwargs)


def test_each_step_keeps_the_better_of_two():
    step = make_hill_climbing_step(quadratic, 0.1)
    batches = [{"x": X}] * 40
    before, distance, kept, changes = np.ones(3), np.inf, 0, []
    for _, state, metrics in convnets.train(step, make_state(), batches, stop=40):
        w = np.asarray(state.params["w"], float)
        loss = np.sum(np.square(X - w))
        np.testing.assert_allclose(metrics["loss"][0], loss, rtol=1e-5)
        if kept:
            np.testing.assert_allclose(state.batch_stats["last"], w[0], rtol=1e-6)
        assert loss < distance or (w == before).all()
        kept += (w != before).any()
        changes += list((w - before)[w != before])
        before, distance = w, loss
    assert 5 < kept < 40
    assert 0.05 < np.std(changes) < 0.2


def test_a_loss_that_is_no_number_is_never_kept():
    def broken(params, batch_stats, batch, key):
        value = jnp.where(params["w"][0] == 1, 5.0, jnp.nan)
        return value, (batch_stats, {"loss": (value, 1)})

    state, metrics = jax.jit(make_hill_climbing_step(broken, 0.1))(make_state(), {})
    assert state.params["w"].tolist() == [1, 1, 1]
    assert float(metrics["loss"][0]) == 5
    assert int(state.step) == 1


def test_devices_climb_as_one():
    climbed = {}
    for way in ("jit", "shard_map", "pmap"):
        step = convnets.parallel.compile(make_hill_climbing_step(quadratic, 0.1), way, devices=8)
        state = make_state()
        for _ in range(5):
            state, metrics = step(state, {"x": X})
        assert int(metrics["loss"][1]) == 16
        climbed[way] = convnets.parallel.gather(state).params["w"]
        np.testing.assert_allclose(climbed[way], climbed["jit"], rtol=1e-6, err_msg=way)
    assert (climbed["jit"] != 1).all()


def test_moving_averages_and_the_scale():
    step = jax.jit(make_hill_climbing_step(quadratic, 0.1, ema=0.5))
    state, _ = step(make_state(ema=True), {"x": X})
    expected = 0.1 + 0.9 * np.asarray(state.params["w"])
    np.testing.assert_allclose(state.ema["params"]["w"], expected, rtol=1e-6)
    with pytest.raises(convnets.UserError, match="scale of the noise"):
        make_hill_climbing_step(quadratic, 0.0)
