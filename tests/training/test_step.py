"""Gradient, update and step against the same written out in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import convnets
from convnets.training import gradient, make_eval_step, make_step, update


def quadratic(params, batch_stats, batch, key):
    """Half the squared distance to each example; the running mean follows the batch."""
    values = 0.5 * jnp.sum(jnp.square(batch["x"] - params["w"][None]), axis=1)
    loss = convnets.weighted_mean(values)
    if key is not None:
        batch_stats = {"mean": 0.9 * batch_stats["mean"] + 0.1 * batch["x"].mean(0)}
    return loss, (batch_stats, {"loss": (values.sum(), jnp.int32(len(values)))})


def make_state(optimizer, **kwargs):
    variables = {"params": {"w": jnp.zeros(3)}, "batch_stats": {"mean": jnp.zeros(3)}}
    return convnets.TrainState.create(variables, optimizer, jax.random.key(0), **kwargs)


X = np.arange(12, dtype=np.float32).reshape(4, 3)


def test_gradient_is_that_of_the_mean():
    grads, batch_stats, metrics = gradient(quadratic)(make_state(optax.sgd(1.0)), {"x": X})
    np.testing.assert_allclose(grads["w"], -X.mean(0), rtol=1e-6)
    np.testing.assert_allclose(batch_stats["mean"], 0.1 * X.mean(0), rtol=1e-6)
    assert int(metrics["loss"][1]) == 4


def test_step_updates_everything_once():
    optimizer = optax.sgd(0.5)
    state, _ = make_step(quadratic, optimizer)(make_state(optimizer), {"x": X})
    assert int(state.step) == 1
    np.testing.assert_allclose(state.params["w"], 0.5 * X.mean(0), rtol=1e-6)
    np.testing.assert_allclose(state.batch_stats["mean"], 0.1 * X.mean(0), rtol=1e-6)
    assert state.ema is None


def test_moving_averages_follow_parameters_and_statistics_and_are_evaluated():
    optimizer = optax.sgd(0.5)
    step = make_step(quadratic, optimizer, ema=0.99)
    state = make_state(optimizer, ema=True)
    average = np.zeros(3)
    for number in range(3):
        state, _ = step(state, {"x": X})
        decay = min(0.99, (1 + number) / (10 + number))
        average = decay * average + (1 - decay) * np.asarray(state.params["w"])
    np.testing.assert_allclose(state.ema["params"]["w"], average, rtol=1e-6)
    metrics = make_eval_step(quadratic)(state, {"x": X})
    expected = 0.5 * np.sum((X - average) ** 2)
    np.testing.assert_allclose(metrics["loss"][0], expected, rtol=1e-6)


def test_every_step_draws_from_another_key():
    def noisy(params, batch_stats, batch, key):
        value = jax.random.uniform(key)
        return value * params["w"][0], (batch_stats, {"loss": (value, 1)})

    optimizer = optax.sgd(0.0)
    step, state = make_step(noisy, optimizer), make_state(optimizer)
    state, first = step(state, {})
    _, second = step(state, {})
    assert float(first["loss"][0]) != float(second["loss"][0])


def test_an_optimizer_that_wants_the_value_gets_it():
    seen = []

    def remember(updates, state, params=None, *, value, **_):
        seen.append(float(value))
        return updates, state

    optimizer = optax.GradientTransformationExtraArgs(lambda params: (), remember)
    make_step(quadratic, optimizer)(make_state(optimizer), {"x": X})
    np.testing.assert_allclose(seen, [0.5 * np.mean(np.sum(X**2, 1))], rtol=1e-6)


def test_update_alone_is_the_optimizers():
    optimizer = optax.adam(0.1)
    state = make_state(optimizer)
    after = update(state, {"w": jnp.ones(3)}, {}, optimizer)
    np.testing.assert_allclose(after.params["w"], -0.1 * np.ones(3), rtol=1e-5)


def test_typed_and_raw_keys_give_the_same_state():
    typed = make_state(optax.sgd(1.0)).key
    variables = {"params": {}}
    raw = convnets.TrainState.create(variables, optax.sgd(1.0), jax.random.PRNGKey(0)).key
    assert typed.tolist() == raw.tolist()


def test_train_copies_the_state_and_starts_at_its_step():
    optimizer = optax.sgd(0.5)
    state = make_state(optimizer).replace(step=jnp.int32(2))
    asked = []

    def batches(start):
        asked.append(start)
        while True:
            yield {"x": X}

    numbers = [
        n for n, _, _ in convnets.train(make_step(quadratic, optimizer), state, batches, stop=5)
    ]
    assert asked == [2]
    assert numbers == [3, 4, 5]
    assert state.params["w"].tolist() == [0, 0, 0]


def test_train_closes_what_it_opened_and_takes_no_more_than_it_runs():
    closed = []

    def batches(start):
        try:
            while True:
                yield {"x": X}
        finally:
            closed.append(start)

    step, state = make_step(quadratic, optax.sgd(0.5)), make_state(optax.sgd(0.5))
    for _ in convnets.train(step, state, batches, stop=100):
        break
    assert closed == [0]
    given = iter([{"x": X}] * 4)
    assert len(list(convnets.train(step, state, given, stop=3))) == 3
    assert len(list(given)) == 1


@pytest.mark.parametrize("sizes", [[4], [1, 3], [2, 2], [3, 1]])
def test_evaluate_counts_every_example_once(sizes):
    batches, start = [], 0
    for size in sizes:
        batches.append({"x": X[start : start + size]})
        start += size

    def loss_fn(params, batch_stats, batch, key):
        values = 0.5 * jnp.sum(jnp.square(batch["x"] - params["w"][None]), axis=1)
        mask = batch["mask"]
        return values.sum(), (batch_stats, {"loss": ((values * mask).sum(), mask.sum())})

    for eval_step in (
        make_eval_step(loss_fn),
        convnets.parallel.compile(make_eval_step(loss_fn), donate=False),
    ):
        means = convnets.evaluate(eval_step, make_state(optax.sgd(1.0)), batches)
        assert means["examples"] == 4
        np.testing.assert_allclose(means["loss"], 0.5 * np.mean(np.sum(X**2, 1)), rtol=1e-6)


def test_evaluate_refuses_nothing():
    with pytest.raises(ValueError, match="no example"):
        convnets.evaluate(make_eval_step(quadratic), make_state(optax.sgd(1.0)), [])


def test_averages_and_their_decay_come_together():
    optimizer = optax.sgd(0.5)
    for step, state in (
        (make_step(quadratic, optimizer), make_state(optimizer, ema=True)),
        (make_step(quadratic, optimizer, ema=0.9), make_state(optimizer)),
    ):
        with pytest.raises(ValueError, match="give both or none"):
            step(state, {"x": X})


@pytest.mark.parametrize("devices", [1, 8])
def test_train_keeps_a_state_that_is_placed_already(devices):
    optimizer = optax.sgd(0.5)
    step = convnets.parallel.compile(make_step(quadratic, optimizer), devices=devices)
    batch = {"x": np.tile(X, (2, 1))}
    placed, _ = step(make_state(optimizer), batch)
    first = [state for _, state, _ in convnets.train(step, placed, [batch], stop=2)]
    again = [state for _, state, _ in convnets.train(step, placed, [batch], stop=2)]
    np.testing.assert_array_equal(first[0].params["w"], again[0].params["w"])
    assert not placed.params["w"].is_deleted()


def test_the_value_is_the_loss_itself():
    seen = []

    def remember(updates, state, params=None, *, value, **_):
        seen.append(float(value))
        return updates, state

    def weighted(params, batch_stats, batch, key):
        values = jnp.square(batch["x"][:, 0] - params["w"][0])
        loss = convnets.weighted_mean(values, jnp.array([1.0, 0.0, 0.0, 0.0]))
        return loss, (batch_stats, {"loss": (values.sum(), 4)})

    optimizer = optax.GradientTransformationExtraArgs(lambda params: (), remember)
    make_step(weighted, optimizer)(make_state(optimizer), {"x": X + 1})
    assert seen == [1.0]
