"""Optimizers and schedules against the lectures' update rules in float64 NumPy."""

import jax
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


LAYERWISE = {"lars", "lamb", "muon"}  # what they do depends on the layer


@pytest.mark.parametrize("name", sorted(set(optimizers.OPTIMIZERS) - LAYERWISE))
def test_equals_the_rule_written_out(name):
    path = run(convnets.create_optimizer(name, rate))
    np.testing.assert_allclose(path, written_out(name), rtol=2e-5, atol=1e-7)


def layerwise(name, decay, w, b):
    """LARS and LAMB by their papers on a kernel `w` and a bias `b`, the latter without a ratio."""
    params, path = {"kernel": w, "bias": b}, []
    memory = {key: [np.zeros_like(x), np.zeros_like(x)] for key, x in params.items()}
    for t, (grads, lr) in enumerate(zip(layer_gradients(), RATES), start=1):
        for key, x in params.items():
            g, (first, second), decayed = grads[key], memory[key], decay * (key == "kernel") * x
            if name == "lars":
                g = g + decayed
                ratio = 0.001 * np.linalg.norm(x) / np.linalg.norm(g) if key == "kernel" else 1
                first = 0.9 * first + lr * ratio * g
                params[key] = x - first
            else:
                first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g**2
                r = first / (1 - 0.9**t) / (np.sqrt(second / (1 - 0.999**t)) + 1e-6) + decayed
                ratio = np.linalg.norm(x) / np.linalg.norm(r) if key == "kernel" else 1
                params[key] = x - lr * ratio * r
            memory[key] = [first, second]
        path.append(dict(params))
    return path


def layer_gradients():
    rng = np.random.default_rng(0)
    return [{"kernel": rng.normal(size=(3, 2)), "bias": rng.normal(size=2)} for _ in RATES]


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("name", ["lars", "lamb"])
def test_ratios_of_trust_are_the_papers(name, decay):
    rng = np.random.default_rng(1)
    w, b = rng.normal(size=(3, 2)), rng.normal(size=2)
    optimizer = convnets.create_optimizer(name, rate, weight_decay=decay)
    params = {"kernel": jnp.asarray(w), "bias": jnp.asarray(b)}
    state, update = optimizer.init(params), jax.jit(optimizer.update)
    for grads, expected in zip(layer_gradients(), layerwise(name, decay, w, b)):
        updates, state = update(jax.tree.map(jnp.asarray, grads), state, params)
        params = optax.apply_updates(params, updates)
        for key, value in expected.items():
            np.testing.assert_allclose(params[key], value, rtol=1e-5, atol=1e-6)


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


def test_one_cycle_by_hand():
    cycle = convnets.create_schedule("one_cycle", 0.5, 100)
    rise = [0.02 + 0.48 * (1 - np.cos(np.pi * t / 30)) / 2 for t in range(31)]
    fall = [2e-6 + (0.5 - 2e-6) * (1 + np.cos(np.pi * t / 70)) / 2 for t in range(71)]
    expected = [*rise, *fall[1:]]
    found = np.asarray(jax.jit(jax.vmap(cycle))(np.arange(101)))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=2e-7)
    np.testing.assert_allclose(found[[0, 15, 30]], [0.02, 0.26, 0.5], rtol=1e-5)
    for steps in (0, 1, 4):  # too short to fall in
        short = convnets.create_schedule("one_cycle", 0.5, steps)
        rates = jax.jit(jax.vmap(short))(np.arange(steps + 1))
        assert ((rates > 0) & (rates <= 0.5)).all()
    with pytest.raises(convnets.UserError, match="takes no warm-up"):
        convnets.create_schedule("one_cycle", 0.5, 100, warmup=5)


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
