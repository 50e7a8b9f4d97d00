"""Optimizers and schedules against the lectures' update rules in float64 NumPy."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import convnets
from convnets.training import optimizers, reduce_on_plateau
from convnets.training.schedules import plateau_scale

RATES = [0.1, 0.1, 0.01, 0.01, 0.05]  # it changes, which is where forms of momentum differ
GRADIENTS = np.array([[1.0, -2.0], [0.5, 3.0], [-1.0, 0.1], [2.0, 2.0], [0.3, -0.4]])


def rate(step):
    return jnp.asarray(RATES)[step]


def run(optimizer, gradients=GRADIENTS, start=(0.0, 0.0)):
    params = {"kernel": jnp.asarray(start)}
    state, path = optimizer.init(params), []
    for g in gradients:
        updates, state = optimizer.update({"kernel": jnp.asarray(g)}, state, params)
        params = optax.apply_updates(params, updates)
        path.append(np.asarray(params["kernel"], np.float64))
    return np.array(path)


def written_out(name):
    x, delta, total, path = np.zeros(2), np.zeros(2), np.zeros(2), []
    mean, square = np.zeros(2), np.zeros(2)
    for t, (g, lr) in enumerate(zip(GRADIENTS, RATES), start=1):
        if name == "sgd":
            x = x - lr * g
        elif name == "momentum":
            delta = 0.9 * delta - lr * g
            x = x + delta
        elif name == "nesterov":
            delta = 0.9 * delta - lr * g
            x = x + 0.9 * delta - lr * g
        elif name == "adagrad":
            total = total + g**2
            x = x - lr * g / np.sqrt(total)
        elif name == "rmsprop":
            total = 0.9 * total + 0.1 * g**2
            x = x - lr * g / np.sqrt(total)
        else:
            mean, square = 0.9 * mean + 0.1 * g, 0.999 * square + 0.001 * g**2
            x = x - lr * (mean / (1 - 0.9**t)) / np.sqrt(square / (1 - 0.999**t))
        path.append(x)
    return np.array(path)


@pytest.mark.parametrize("name", sorted(optimizers.OPTIMIZERS))
def test_equals_the_rule_written_out(name):
    path = run(convnets.create_optimizer(name, rate))
    np.testing.assert_allclose(path, written_out(name), rtol=2e-5, atol=1e-7)


def test_momentum_is_not_optax_sgd_when_the_rate_changes():
    path = run(convnets.create_optimizer("momentum", rate))
    assert np.abs(path - run(optax.sgd(rate, momentum=0.9))).max() > 0.01


def test_decay_is_for_kernels_alone():
    optimizer = convnets.create_optimizer("sgd", 1.0, weight_decay=0.1)
    params = {"conv": {"kernel": jnp.ones(2), "bias": jnp.ones(2)}, "bn": {"scale": jnp.ones(2)}}
    zeros = {"conv": {"kernel": jnp.zeros(2), "bias": jnp.zeros(2)}, "bn": {"scale": jnp.zeros(2)}}
    updates, _ = optimizer.update(zeros, optimizer.init(params), params)
    np.testing.assert_allclose(updates["conv"]["kernel"], -0.1 * np.ones(2), rtol=1e-6)
    assert updates["conv"]["bias"].tolist() == updates["bn"]["scale"].tolist() == [0, 0]


def test_adamw_decays_apart_from_the_moments():
    optimizer = convnets.create_optimizer("adamw", 0.5, weight_decay=0.1)
    path = run(optimizer, np.zeros((1, 2)), start=(1.0, 2.0))
    np.testing.assert_allclose(path[0], [0.95, 1.9], rtol=1e-6)


def test_clipping_limits_the_norm():
    path = run(convnets.create_optimizer("sgd", 1.0, clip=1.0), np.array([[3.0, 4.0]]))
    np.testing.assert_allclose(path[0], [-0.6, -0.8], rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("adm", 0.1), "did you mean 'adam'"),
        (("sgd", 0.0), "must be positive"),
        (("sgd", float("nan")), "must be positive"),
    ],
)
def test_bad_optimizers_are_refused(arguments, message):
    with pytest.raises(convnets.UserError, match=message):
        convnets.create_optimizer(*arguments)


def test_schedules_by_hand():
    cosine = convnets.create_schedule("cosine", 1.0, 100)
    expected = [0.5 * (1 + np.cos(np.pi * t / 100)) for t in range(101)]
    np.testing.assert_allclose([cosine(t) for t in range(101)], expected, atol=1e-6)
    step = convnets.create_schedule("step", 1.0, 100, warmup=10)
    np.testing.assert_allclose(
        [step(t) for t in (0, 4, 9, 10, 49, 50, 74, 75, 99)],
        [0.1, 0.5, 1, 1, 1, 0.1, 0.1, 0.01, 0.01],
        rtol=1e-5,
    )
    for steps in (1, 3, 10):  # not before half and three quarters are over
        rate = convnets.create_schedule("step", 1.0, steps)
        drops = [(t >= steps / 2) + (t >= 0.75 * steps) for t in range(steps)]
        np.testing.assert_allclose([rate(t) for t in range(steps)], 0.1 ** np.array(drops), 1e-5)
    with pytest.raises(convnets.UserError, match="did you mean 'cosine'"):
        convnets.create_schedule("cosin", 1.0, 100)
    with pytest.raises(convnets.UserError, match="warm-up of 100 steps"):
        convnets.create_schedule("cosine", 1.0, 100, warmup=100)


def test_plateau_scales_the_updates_after_a_stall():
    plateau, observe = reduce_on_plateau(factor=0.1, patience=2)
    optimizer = optax.chain(optax.sgd(1.0), plateau)
    state = optimizer.init({"w": jnp.zeros(1)})
    scales = []
    for loss in (1.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.4):
        state = observe(state, loss)
        scales.append(plateau_scale(state))
    np.testing.assert_allclose(scales, [1, 1, 1, 0.1, 0.1, 0.01, 0.01], rtol=1e-5)
    updates, _ = optimizer.update({"w": jnp.ones(1)}, state)
    np.testing.assert_allclose(updates["w"], [-0.01], rtol=1e-5)


def test_a_plateau_scales_the_rate_not_the_velocity():
    plateau, observe = reduce_on_plateau(factor=0.1, patience=1)
    optimizer = convnets.create_optimizer("momentum", 1.0, plateau=plateau)
    state = optimizer.init(jnp.zeros(()))
    _, state = optimizer.update(jnp.ones(()), state)
    for loss in (1.0, 2.0):
        state = observe(state, loss)
    updates, _ = optimizer.update(jnp.ones(()), state)
    assert float(updates) == pytest.approx(-0.9 - 0.1)


def test_linear_scaling():
    assert convnets.linear_scaling(0.1, 512) == pytest.approx(0.2)
