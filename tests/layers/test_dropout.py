"""Dropout draws one mask an example, the same however the devices share the batch."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convnets.layers import Dense, DropConnect, Dropout, DropPath

from ..spreading import SPREAD, spread

KEY = jax.random.key(3)


def drop(x, rate=0.5, key=KEY):
    return Dropout(rate).apply({}, x, train=True, rngs={"dropout": key})


def test_evaluation_is_the_identity_and_needs_no_key():
    x = jnp.arange(12.0).reshape(3, 4)
    assert Dropout(0.9).apply({}, x, train=False).tolist() == x.tolist()
    assert Dropout(0.0).apply({}, x, train=True).tolist() == x.tolist()
    assert Dropout(0.9).init(KEY, x, train=True) == {}


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.8])
def test_values_are_dropped_or_scaled_and_their_mean_is_kept(rate):
    x = np.linspace(1, 2, 20_000, dtype=np.float32).reshape(200, 10, 10)
    y = np.asarray(drop(jnp.asarray(x), rate))
    kept = y != 0
    np.testing.assert_allclose(y[kept], x[kept] / (1 - rate), rtol=1e-6)
    for mean, expected, variance in (
        (kept.mean(), 1 - rate, rate * (1 - rate)),
        (y.mean(), x.mean(), np.square(x).mean() * rate / (1 - rate)),
    ):
        assert abs(mean - expected) < 4 * (variance / x.size) ** 0.5  # standard deviations


def test_gradient_is_the_mask():
    x = jnp.linspace(1, 2, 12).reshape(3, 4)
    y, pull_back = jax.vjp(drop, x)
    (of_x,) = pull_back(jnp.ones_like(y))
    np.testing.assert_allclose(of_x, np.where(y == 0, 0, 2))


def test_masks_differ_by_example_module_and_key():
    x = jnp.ones((6, 64))
    rows = np.asarray(drop(x))
    assert len(np.unique(rows, axis=0)) == len(rows)

    class Two(nn.Module):
        @nn.compact
        def __call__(self, x, *, train):
            return tuple(Dropout(0.5, name=name)(x, train=train) for name in ("first", "second"))

    first, second = Two().apply({}, x, train=True, rngs={"dropout": KEY})
    again, _ = Two().apply({}, x, train=True, rngs={"dropout": KEY})
    other, _ = Two().apply({}, x, train=True, rngs={"dropout": jax.random.key(4)})
    assert (first == again).all()
    for masks in (second, other):
        same = np.asarray(first == masks).mean(1)
        assert (same < 0.9).all()


@pytest.mark.parametrize("way", SPREAD)
def test_devices_draw_the_masks_of_the_whole_batch(way):
    x = np.linspace(1, 2, 24 * 10, dtype=np.float32).reshape(24, 5, 2)
    _, rows = spread(lambda key, x: ((), drop(x, key=key)), way, KEY, x)
    np.testing.assert_array_equal(rows, drop(jnp.asarray(x)))


def test_half_precision_stays():
    y = drop(jnp.ones((4, 8), jnp.bfloat16))
    assert y.dtype == jnp.bfloat16
    assert set(np.unique(np.asarray(y, np.float32))) == {0, 2}


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5, float("nan")])
def test_rates_outside_of_0_to_1_are_refused(rate):
    for train in (True, False):
        with pytest.raises(ValueError, match=rf"in \[0, 1\), not {rate}"):
            Dropout(rate).apply({}, jnp.ones((2, 2)), train=train)


def test_what_does_not_fit_is_refused():
    with pytest.raises(TypeError, match="int32"):
        Dropout(0.5).apply({}, jnp.ones((2, 2), jnp.int32), train=False)
    with pytest.raises(TypeError, match="train"):
        Dropout(0.5).apply({}, jnp.ones((2, 2)))


def test_drop_path_drops_whole_examples_alike_on_all_devices():
    x = jnp.ones((400, 2, 3))
    path = DropPath(0.25)
    y = np.asarray(path.apply({}, x, train=True, rngs={"dropout": KEY}))
    assert set(np.unique(y)) == {0, np.float32(1 / 0.75)}
    assert (y == y[:, :1, :1]).all()
    assert abs((y[:, 0, 0] != 0).mean() - 0.75) < 4 * (0.25 * 0.75 / 400) ** 0.5
    assert path.apply({}, x, train=False).tolist() == x.tolist()
    with pytest.raises(ValueError, match="1.5"):
        DropPath(1.5).apply({}, x, train=True)

    def apply(key, x):
        return (), path.apply({}, x, train=True, rngs={"dropout": key})

    for way in SPREAD:
        np.testing.assert_array_equal(spread(apply, way, KEY, x)[1], y)


WEIGHTS = {
    "kernel": np.linspace(1, 2, 5 * 4, dtype=np.float32).reshape(5, 4),
    "bias": np.linspace(3, 4, 4, dtype=np.float32),
}


@jax.jit
def connect(key, x):
    layer = DropConnect(4, 0.25)
    return layer.apply({"params": WEIGHTS}, x, train=True, rngs={"dropout": key})


def test_drop_connect_drops_weights_of_each_example_alone():
    """One input at a time is 1: what comes is its weight or nothing, and the bias or nothing."""
    x = np.tile(np.eye(5, dtype=np.float32), (400, 1))
    y = np.asarray(connect(KEY, x)).reshape(400, 5, 4) * 0.75
    w, b = WEIGHTS["kernel"][None], WEIGHTS["bias"].reshape(1, 1, 4)
    cases = np.stack([np.abs(y - value) < 1e-5 for value in (w + b, w + 0 * b, b + 0 * w, 0 * w)])
    assert (cases.sum(0) == 1).all()
    for share, expected in zip(cases.mean((1, 2, 3)), (0.5625, 0.1875, 0.1875, 0.0625)):
        assert abs(share - expected) < 4 * (expected * (1 - expected) / y.size) ** 0.5
    kept = cases[0] | cases[1]
    assert len(np.unique(kept.reshape(2000, 4), axis=0)) == 16
    assert len(np.unique(kept.reshape(400, 20), axis=0)) > 390


def test_drop_connect_keeps_the_mean_which_is_the_dense_layer():
    x = np.random.default_rng(0).normal(size=(1, 5)).astype(np.float32)
    y = np.asarray(connect(KEY, np.tile(x, (4000, 1))), float)
    layer = DropConnect(4, 0.25)
    mean = layer.apply({"params": WEIGHTS}, x, train=False)
    assert np.array_equal(mean, Dense(4).apply({"params": WEIGHTS}, x))
    terms = np.concatenate([x.T * WEIGHTS["kernel"], WEIGHTS["bias"][None]])
    variance = np.sum(terms**2, axis=0) / 3  # rate / (1 - rate) for each term
    assert (np.abs(y.mean(0) - mean[0]) < 4 * np.sqrt(variance / len(y))).all()
    np.testing.assert_allclose(y.var(0), variance, rtol=0.1)
    assert layer.init(KEY, x, train=True).keys() == {"params"}


@pytest.mark.parametrize("way", ["jit", "shard_map", "pmap"])
def test_devices_draw_the_connections_of_the_whole_batch(way):
    x = np.linspace(1, 2, 24 * 5, dtype=np.float32).reshape(24, 5)
    _, rows = spread(lambda key, x: ((), connect(key, x)), way, KEY, x)
    np.testing.assert_allclose(rows, connect(KEY, x), rtol=1e-6)


def test_drop_connect_refuses_what_does_not_fit():
    for x, rate, error in (
        (jnp.ones((2, 3)), 1.0, "in \\[0, 1\\), not 1.0"),
        (jnp.ones((2, 3, 4)), 0.5, r"takes \[B, C\], came shape \(2, 3, 4\)"),
        (jnp.ones((2, 3), jnp.int32), 0.5, "not int32"),
    ):
        with pytest.raises((ValueError, TypeError), match=error):
            DropConnect(4, rate).init(KEY, x, train=False)


@pytest.mark.parametrize("train", [True, False])
def test_drop_path_refuses_integers(train):
    with pytest.raises(TypeError, match="DropPath takes floats, not int32"):
        DropPath(0.5).apply({}, jnp.ones((2, 3), jnp.int32), train=train)
