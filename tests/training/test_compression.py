"""Gradients rounded to bfloat16 on their way, against the same in NumPy."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest

import convnets
from convnets.parallel import compile as compile_step
from convnets.parallel import gather
from convnets.training import gradient, journal
from tests.small_runs import PLAIN, assert_same_bits, column, fit

DEVICES, BATCH = 4, 8
STRATEGIES = ["shard_map", "pmap"]


def linear(params, batch_stats, batch, key):
    """Its gradient is the mean of the examples."""
    values = batch["x"] @ params["w"]
    loss = convnets.weighted_mean(values)
    return loss, (batch_stats, {"loss": (values.sum(), jnp.int32(len(values)))})


def make_state(optimizer):
    variables = {"params": {"w": jnp.zeros(1000)}}
    return convnets.TrainState.create(variables, optimizer, jax.random.key(0))


X = np.random.default_rng(0).normal(size=(BATCH, 1000)).astype(np.float32)


def rounded(x):
    return x.astype(ml_dtypes.bfloat16).astype(np.float32)


def by_hand():
    """Shares rounded, then their sum, then a division in float32."""
    shares = X.reshape(DEVICES, -1, 1000).mean(1)
    return rounded(rounded(shares).sum(0)) / DEVICES


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_mean_is_that_of_rounded_gradients(strategy):
    gradient_fn = gradient(linear, compress="bfloat16")
    step = compile_step(lambda *x: gradient_fn(*x)[0], strategy, devices=DEVICES, donate=False)
    found = gather(step(make_state(optax.sgd(1.0)), {"x": X}))["w"]
    assert found.dtype == np.float32
    # A sum of bfloat16 may be rounded once or, where a platform adds in it, with each addend.
    np.testing.assert_allclose(found, by_hand(), rtol=2**-6, atol=2**-9)
    assert np.mean(found == by_hand()) > 0.9
    assert np.abs(found - X.mean(0)).max() > 1e-4


def test_what_is_sent_is_bfloat16():
    """In the program as it goes to the compiler; XLA widens what it sends between CPU devices."""

    def sent(compress):
        step = convnets.make_step(linear, optax.sgd(1.0), compress=compress)
        step = compile_step(step, "shard_map", devices=DEVICES)
        state = step.place_state(make_state(optax.sgd(1.0)))
        text = step.run.lower(state, step.place_batch({"x": X})).as_text()
        ends = [line for line in text.splitlines() if line.strip().startswith("}) : (tensor<1000x")]
        return [line.split("tensor<1000x")[1].split(">")[0] for line in ends]

    assert sent("bfloat16") == ["bf16"]
    assert sent(None) == ["f32"]


def test_a_run_with_it_is_close_to_one_without_and_goes_on(tmp_path):
    options = PLAIN | {"parallel": "shard_map", "devices": 4, "learning_rate": 0.1}
    plain = fit(steps=6, **options)
    options |= {"compress_gradients": "bfloat16"}
    compressed = fit(steps=6, **options)
    losses = [column(result, "train_loss") for result in (compressed, plain)]
    np.testing.assert_allclose(*losses, rtol=0.01)
    assert losses[0] != losses[1]
    fit(steps=4, workdir=tmp_path, **options)
    assert journal.read_config(tmp_path)["compress_gradients"] == "bfloat16"
    assert_same_bits(fit(steps=6, workdir=tmp_path, resume=True, **options).state, compressed.state)
    with pytest.raises(convnets.UserError, match="compress_gradients: 'bfloat16' in the run, None"):
        fit(steps=8, workdir=tmp_path, resume=True, **options | {"compress_gradients": None})


def test_a_config_from_before_is_read_with_the_default(tmp_path):
    options = PLAIN | {"steps": 2, "workdir": tmp_path}
    fit(**options)
    config = journal.read_config(tmp_path)
    journal.write_config(
        tmp_path,
        {n: x for n, x in config.items() if n not in ("compress_gradients", "average_every")},
    )
    assert fit(**options | {"steps": 3}, resume=True).state.step == 3
    assert journal.read_config(tmp_path)["average_every"] == 1


def test_where_it_cannot_be_it_is_refused():
    with pytest.raises(convnets.UserError, match="is for shard_map and pmap.*, not for jit"):
        fit(compress_gradients="bfloat16")
    with pytest.raises(convnets.UserError, match="did you mean 'bfloat16'"):
        fit(compress_gradients="bfloat8", parallel="shard_map")
    step = convnets.make_step(linear, optax.sgd(1.0), compress="bfloat16")
    with pytest.raises(convnets.UserError, match="by shard_map or pmap; under jit the compiler"):
        compile_step(step)(make_state(optax.sgd(1.0)), {"x": X})
