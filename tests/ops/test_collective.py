"""The data axis: one answer whether or not it is bound."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convnets.ops import collective

from ..spreading import BOUND, DEVICES, SPREAD, spread

X = np.random.default_rng(0).normal(size=(24, 2)).astype(np.float32)


def test_outside_of_the_axis_everything_is_plain():
    tree = {"x": jnp.arange(3.0)}
    assert collective.axis_size() is None
    for function in (
        collective.sum_over_data,
        collective.mean_over_data,
        collective.varying_over_data,
    ):
        assert function(tree) is tree
    assert collective.global_indices(3).tolist() == [0, 1, 2]


def test_another_axis_is_not_the_data_axis():
    seen = []

    def look(x):
        seen.append(collective.axis_size())
        return collective.sum_over_data(x)

    y = jax.vmap(look, axis_name="model")(jnp.arange(3.0))
    assert seen == [None]
    assert y.tolist() == [0, 1, 2]


@pytest.mark.parametrize("way", BOUND)
def test_sums_and_means_go_over_all_parts(way):
    def reduce(_, x):
        assert collective.axis_size() == DEVICES
        parts = {"x": x.sum(0), "examples": jnp.int32(len(x))}
        return (
            collective.sum_over_data(parts),
            collective.mean_over_data(parts["x"]),
            collective.mean_over_data(jnp.float32(2)),  # the same on every device already
        ), x

    (total, mean, two), _ = spread(reduce, way, (), X)
    np.testing.assert_allclose(total["x"], X.sum(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(mean, X.sum(0) / DEVICES, rtol=1e-5, atol=1e-6)
    assert (total["examples"], two) == (24, 2)


@pytest.mark.parametrize("way", SPREAD)
def test_indices_and_keys_are_those_of_the_whole_batch(way):
    key = jax.random.key(5)

    def draw(key, x):
        keys = collective.example_keys(key, len(x))
        return (), (collective.global_indices(len(x)), jax.vmap(jax.random.bits)(keys))

    _, (indices, bits) = spread(draw, way, key, X)
    assert indices.tolist() == list(range(24))
    expected = [jax.random.bits(jax.random.fold_in(key, i)).item() for i in range(24)]
    assert bits.tolist() == expected
    assert len(set(expected)) == 24


@pytest.mark.parametrize("way", SPREAD)
def test_gradients_with_respect_to_varying_values_are_each_devices_own(way):
    """Their sum is the gradient of the sum; without the mark, `shard_map` would sum twice."""

    def gradient(w, x):
        w = collective.varying_over_data(collective.varying_over_data(w))
        own = jax.grad(lambda w: (x * jnp.square(w)[None]).sum())(w)
        return collective.sum_over_data(own), x

    w = np.array([3.0, -1.0], np.float32)
    total, _ = spread(gradient, way, w, X)
    np.testing.assert_allclose(total, 2 * w * X.sum(0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("way", BOUND)
def test_small_arrays_travel_together_and_come_back_apart(way, monkeypatch):
    """Floats and integers, equal on all devices or not, scalars, matrices and a large array."""
    monkeypatch.setattr(collective, "SMALL", 7)
    sent = []

    def reduce(reducer):
        def noted(x, axis):
            sent.append(np.shape(x))
            return reducer(x, axis)

        return noted

    monkeypatch.setattr(collective.lax, "psum", reduce(collective.lax.psum))

    def total(_, x):
        tree = {
            "large": jnp.outer(x.sum(0), jnp.arange(4.0)),
            "matrix": x[:3].sum() * jnp.eye(2),
            "same": jnp.float32(2),
            "counts": (jnp.int32(len(x)), x.shape[0]),
            "vector": x.sum(0),
        }
        return collective.sum_over_data(tree), x

    found, _ = spread(total, way, (), X)
    first = X.reshape(DEVICES, -1, 2)[:, :3].sum()
    np.testing.assert_allclose(found["large"], np.outer(X.sum(0), np.arange(4)), rtol=1e-5)
    np.testing.assert_allclose(found["matrix"], first * np.eye(2), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["vector"], X.sum(0), rtol=1e-5, atol=1e-6)
    assert (found["same"], *found["counts"]) == (2 * DEVICES, 24, 24)
    assert found["counts"][0].dtype == np.int32
    # the large one, the constant, the floats and the integers
    assert sorted(sent) == [(), (1,), (2, 4), (7,)]
