"""Muon's direction against its iteration in NumPy, and loosely against singular vectors."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import convnets
from convnets.training import orthogonalize_momentum

SHAPES = {"conv": (3, 3, 2, 7), "wide": (4, 9), "tall": (9, 4), "table": (2, 2, 3), "head": (4, 3)}
RNG = np.random.default_rng(0)
STEPS = [{name: {"kernel": RNG.normal(size=SHAPES[name])} for name in SHAPES} for _ in range(3)]


@functools.cache
def directions():
    direction = orthogonalize_momentum()
    params = jax.tree.map(np.float32, STEPS[0])
    state, found = jax.jit(direction.init)(params), []
    update = jax.jit(direction.update)
    for grads in STEPS:
        updates, state = update(jax.tree.map(np.float32, grads), state, params)
        found.append(updates)
    return found


def newton_schulz(x):
    x = x / np.linalg.norm(x)
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x


@pytest.mark.parametrize("name", ["conv", "wide", "tall"])
def test_kernels_take_the_iteration_of_their_momentum(name):
    momentum = 0.0
    for t, (grads, found) in enumerate(zip(STEPS, directions()), start=1):
        g = grads[name]["kernel"].reshape(-1, SHAPES[name][-1])
        momentum = 0.95 * momentum + 0.05 * g
        ahead = 0.95 * momentum / (1 - 0.95 ** (t + 1)) + 0.05 * g / (1 - 0.95**t)
        scale = np.sqrt(max(1.0, g.shape[1] / g.shape[0]))
        expected = scale * newton_schulz(ahead)
        found = np.asarray(found[name]["kernel"]).reshape(expected.shape)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
        u, _, v = np.linalg.svd(ahead, full_matrices=False)
        assert np.abs(found / scale - u @ v).max() < 0.35
        values = np.linalg.svd(found / scale, compute_uv=False)
        assert 0.6 < values.min() < values.max() < 1.3


@pytest.mark.parametrize("name", ["table", "head"])
def test_all_else_takes_a_tenth_of_adams(name):
    first, second = 0.0, 0.0
    for t, (grads, found) in enumerate(zip(STEPS, directions()), start=1):
        g = grads[name]["kernel"]
        first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g**2
        expected = first / (1 - 0.9**t) / np.sqrt(second / (1 - 0.999**t))
        np.testing.assert_allclose(found[name]["kernel"], 0.1 * expected, rtol=1e-4)


def test_decay_is_apart_from_the_momentum():
    params = {"dense": {"kernel": jnp.eye(3), "bias": jnp.ones(3)}}
    zeros = jax.tree.map(jnp.zeros_like, params)
    optimizer = convnets.create_optimizer("muon", 0.5, weight_decay=0.1)
    updates, _ = jax.jit(optimizer.update)(zeros, optimizer.init(params), params)
    np.testing.assert_allclose(updates["dense"]["kernel"], -0.05 * np.eye(3), rtol=1e-6)
    assert not updates["dense"]["bias"].any()
