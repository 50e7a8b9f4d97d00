"""Local SGD against the same written out in NumPy, and against one device at a time."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import convnets
from convnets.layers import BatchNorm, Dense, Dropout
from convnets.ops import collective
from convnets.parallel import compile as compile_step
from convnets.parallel import gather
from tests.small_runs import PLAIN, assert_same_bits, column, fit, plain_run, timeless

DEVICES, EVERY, BATCH, RATE, MOMENTUM = 4, 3, 24, 0.1, 0.9
STRATEGIES = ["shard_map", "pmap"]


def make_batches(count, features=5):
    rng = np.random.default_rng(0)
    return [
        {
            "image": rng.normal(size=(BATCH, features)).astype(np.float32),
            "label": rng.integers(0, 3, BATCH).astype(np.int32),
        }
        for _ in range(count)
    ]


def least_squares(params, batch_stats, batch, key):
    """Half the squared error of a line; the statistics follow the batch's mean."""
    values = 0.5 * jnp.square(batch["image"] @ params["w"] - batch["label"])
    mean = collective.mean_over_data(batch["image"].mean(0))
    stats = {"mean": 0.9 * batch_stats["mean"] + 0.1 * mean}
    measured = {"loss": (values.sum(), jnp.int32(len(values)))}
    return convnets.weighted_mean(values), (stats, measured)


def line_state(optimizer):
    variables = {"params": {"w": jnp.ones(5)}, "batch_stats": {"mean": jnp.zeros(5)}}
    return convnets.TrainState.create(variables, optimizer, jax.random.key(0))


def by_hand(batches):
    """What averaging does, device after device in NumPy: `w`, velocity, mean, sum of losses."""
    ends, losses = [], 0.0
    for device in range(DEVICES):
        w, velocity, mean = np.ones(5), np.zeros(5), np.zeros(5)
        for batch in batches:
            share = slice(device * BATCH // DEVICES, (device + 1) * BATCH // DEVICES)
            x, y = np.float64(batch["image"][share]), batch["label"][share]
            errors = x @ w - y
            losses += 0.5 * np.sum(errors**2)
            velocity = MOMENTUM * velocity + x.T @ errors / len(y)
            w = w - RATE * velocity
            mean = 0.9 * mean + 0.1 * x.mean(0)
        ends.append((w, velocity, mean))
    return *(np.mean(each, axis=0) for each in zip(*ends)), losses


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_three_steps_on_four_devices_are_those_by_hand(strategy):
    optimizer = optax.sgd(RATE, momentum=MOMENTUM)
    step = convnets.make_step(least_squares, optimizer)
    step = compile_step(step, strategy, devices=DEVICES, steps_per_call=EVERY, local=True)
    batches = make_batches(EVERY)
    state, metrics = step(line_state(optimizer), batches)
    state, metrics = gather((state, metrics))
    w, velocity, mean, losses = by_hand(batches)
    np.testing.assert_allclose(state.params["w"], w, rtol=1e-5)
    np.testing.assert_allclose(jax.tree.leaves(state.opt_state)[0], velocity, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(state.batch_stats["mean"], mean, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(metrics["loss"][0], losses, rtol=1e-5)
    assert metrics["loss"][1] == EVERY * BATCH
    assert state.step == EVERY
    one, _ = compile_step(convnets.make_step(least_squares, optimizer), devices=1)(
        line_state(optimizer), batches[0]
    )
    assert np.abs(gather(one).batch_stats["mean"] - mean).max() > 1e-3  # not one step alone


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_an_average_after_every_step_of_plain_sgd_is_the_synchronous_step(strategy):
    optimizer, batches = optax.sgd(RATE), make_batches(4)
    step = convnets.make_step(least_squares, optimizer)
    local = compile_step(step, strategy, devices=DEVICES, local=True)
    together = compile_step(step, strategy, devices=DEVICES)
    states = [line_state(optimizer)] * 2
    for batch in batches:
        states = [each(state, batch)[0] for each, state in zip((local, together), states)]
    found, expected = map(gather, states)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected)):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)
    assert np.abs(expected.params["w"] - 1).max() > 0.1


class Noisy(nn.Module):
    """Batch norm over groups of three, and dropout: what must stay within a device, and not."""

    dropout: float = 0.0

    @nn.compact
    def __call__(self, x, *, train: bool):
        x = nn.relu(BatchNorm(group_size=3, name="norm")(Dense(8, name="dense")(x), train=train))
        x = Dropout(self.dropout, name="dropout")(x, train=train)
        return Dense(3, name="head")(x)


def noisy(dropout, optimizer):
    model = Noisy(dropout)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 5)), train=False)
    state = convnets.TrainState.create(variables, optimizer, jax.random.key(1), ema=True)
    return convnets.make_step(convnets.classification_loss(model), optimizer, ema=0.9), state


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_batch_norm_and_adam_are_each_devices_own_and_then_averaged(strategy):
    """Against each share trained by itself on one device."""
    optimizer, batches = optax.adam(0.01), make_batches(EVERY)
    step, state = noisy(0.0, optimizer)
    alone = compile_step(step, devices=1)
    ends = []
    for device in range(DEVICES):
        share = slice(device * BATCH // DEVICES, (device + 1) * BATCH // DEVICES)
        end = state
        for batch in batches:
            end, _ = alone(end, {name: x[share] for name, x in batch.items()})
        ends.append(gather(end))
    local = compile_step(step, strategy, devices=DEVICES, steps_per_call=EVERY, local=True)
    found = gather(local(state, batches)[0])
    expected = jax.tree.map(lambda *x: np.mean(x, axis=0), *ends)
    for (path, a), b in zip(jax.tree.leaves_with_path(found), jax.tree.leaves(expected)):
        name = jax.tree_util.keystr(path)
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5, err_msg=name)
    kernels = [end.params["head"]["kernel"] for end in ends]
    assert np.abs(kernels[0] - kernels[1]).max() > 1e-3


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_devices_drop_out_alike_no_more_than_examples_do(strategy):
    """One local step draws what the synchronous one draws, so its metrics are the same."""
    optimizer = optax.sgd(RATE)
    step, state = noisy(0.5, optimizer)
    batch = make_batches(1)[0]
    batch = {name: np.tile(x[:6], (DEVICES, *(1,) * (x.ndim - 1))) for name, x in batch.items()}
    losses = [
        float(compile_step(step, kind, devices=devices, local=local)(state, batch)[1]["loss"][0])
        for kind, devices, local in (("jit", 1, False), (strategy, DEVICES, True))
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    quarter = {name: x[:6] for name, x in batch.items()}
    one = compile_step(step, devices=1)(state, quarter)[1]["loss"][0]
    assert abs(losses[0] - DEVICES * float(one)) > 1e-3  # else every device had drawn the same


def test_what_no_device_changes_keeps_every_bit():
    """A third of three times a float need not be that float; infinity less itself is none."""
    values = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    values[:2] = np.inf, -np.inf
    state = {"constant": values, "count": np.int32(7)}

    def step(state, batch):
        return state, {"loss": (batch.sum(), 1)}

    found, _ = compile_step(step, "shard_map", devices=3, local=True)(state, np.ones(3, np.float32))
    assert_same_bits(gather(found), state)


def test_a_run_averages_every_so_many_steps_and_goes_on_bit_for_bit(tmp_path):
    options = PLAIN | {"average_every": 3, "parallel": "shard_map", "devices": 4}
    options |= {"evaluate_every": 4, "checkpoint_every": 1, "log_every": 2}
    whole = fit(steps=10, **options)
    assert [line["step"] for line in whole.history if "test_loss" in line] == [6, 12]
    assert [line["step"] for line in whole.history if "train_loss" in line] == [3, 6, 9, 12]
    assert whole.state.step == 12
    half = fit(steps=6, workdir=tmp_path, **options)
    again = fit(steps=12, workdir=tmp_path, resume=True, **options)
    assert half.state.step == 6
    assert_same_bits(again.state, whole.state)
    assert timeless(again.history) == timeless(whole.history)
    other = fit(steps=12, **PLAIN, devices=4, evaluate_every=6)
    assert column(other, "train_loss")[-1] != column(whole, "train_loss")[-1]


def test_an_average_at_every_step_is_what_a_run_does_by_default():
    assert_same_bits(fit(average_every=1, **PLAIN).state, plain_run().state)


LOCAL = {"average_every": 2, "parallel": "shard_map"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"average_every": 2}, "average_every is for shard_map and pmap.* take parallel shard_map"),
        ({"average_every": 0}, "average_every must be a whole number, at least 1, not 0"),
        ({**LOCAL, "steps_per_call": 3}, "a call runs 2 steps, not 3: leave steps_per_call out"),
        ({**LOCAL, "compress_gradients": "bfloat16"}, "with average_every 2 none is sent"),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    with pytest.raises(convnets.UserError, match=message):
        fit(**options)


def test_a_state_between_averages_and_groups_across_devices_are_refused():
    with pytest.raises(convnets.UserError, match="at step 4, between two averages of every 3"):
        fit(state=plain_run().state, **LOCAL | {"average_every": 3})
    model = convnets.create_model("cifar_resnet8", num_classes=10)
    with pytest.raises(convnets.UserError, match="own 6 examples, .* into groups of 12"):
        fit(model, batch_norm_group=12, devices=4, **LOCAL)
    with pytest.raises(convnets.UserError, match="one program for each device: shard_map or pmap"):
        compile_step(lambda state, batch: (state, {}), local=True)
