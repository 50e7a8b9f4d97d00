"""Recomputed statistics are those of NumPy loops in float64, on one device and on several."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from convnets import Normalization, make_moments_step, parallel, recompute_statistics
from convnets.layers import BatchNorm, Dense, Dropout, run_stage
from convnets.training import TrainState

EPSILON = 1e-5
SIZES = (16, 8, 8)  # of the batches


class Net(nn.Module):
    """Batch norm on pixels, then on a row behind dropout, inside a stage that is computed again."""

    momentum: float = 0.9
    group_size: int | None = None
    checkpoint: bool = True

    @nn.compact
    def __call__(self, images, *, train: bool):
        return run_stage(self, layers_of, images, train=train)


class Unnormalized(nn.Module):
    @nn.compact
    def __call__(self, images, *, train: bool):
        return images


def layers_of(net, images, train):
    options = {"momentum": net.momentum, "group_size": net.group_size}
    x = BatchNorm(**options, name="first")(images, train=train)
    x = Dense(5, name="dense")(Dropout(0.5)(x.reshape(len(x), 12), train=train))
    return BatchNorm(**options, name="second")(jnp.square(x), train=train)


@pytest.fixture(scope="module")
def images():
    """Batches that differ: the variance of their means is half of it all."""
    rng = np.random.default_rng(0)
    shift = np.repeat([0.0, 0.4, 0.5], SIZES).reshape(-1, 1, 1, 1)
    return (shift + 0.5 * rng.uniform(size=(sum(SIZES), 2, 2, 3))).astype(np.float32)


@pytest.fixture(scope="module")
def state(images):
    variables = Net().init(jax.random.key(0), images[:1], train=False)
    normalization = Normalization(np.full(3, 0.3), np.full(3, 0.2))
    key = jax.random.key(0)
    return TrainState.create(variables, optax.identity(), key, normalization=normalization)


def cut(images):
    return [{"image": part} for part in np.split(images, np.cumsum(SIZES)[:-1])]


def population(batches):
    """Mean and variance of each channel over all values of all batches, one by one."""
    values = np.concatenate([batch.reshape(-1, batch.shape[-1]) for batch in batches])
    mean = sum(values) / len(values)
    return {"mean": mean, "var": sum((value - mean) ** 2 for value in values) / len(values)}


def normalize(batch, group_size):
    """Each group of a batch by its own statistics; scales are 1 and biases 0."""
    groups = np.split(batch, len(batch) // (group_size or len(batch)))
    axes = tuple(range(batch.ndim - 1))
    return np.concatenate([(g - g.mean(axes)) / np.sqrt(g.var(axes) + EPSILON) for g in groups])


def expected_statistics(images, state, group_size=None):
    batches = [(batch["image"].astype(np.float64) - 0.3) / 0.2 for batch in cut(images)]
    statistics = {"first": population(batches)}
    kernel = np.float64(state.params["dense"]["kernel"])
    rows = [normalize(batch, group_size).reshape(len(batch), 12) @ kernel for batch in batches]
    return statistics | {"second": population([row**2 for row in rows])}


def assert_close(found, expected):
    for layer, statistics in expected.items():
        for name, values in statistics.items():
            assert found[layer][name].dtype == np.float32
            np.testing.assert_allclose(found[layer][name], values, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("momentum", "group_size"), [(0.9, None), (0.2, 4)])
def test_they_are_the_loops_whatever_momentum_and_groups(images, state, momentum, group_size):
    found = recompute_statistics(Net(momentum, group_size), state, cut(images))
    assert_close(found.batch_stats, expected_statistics(images, state, group_size))
    assert found.params is state.params
    assert state.batch_stats["first"]["mean"].tolist() == [0, 0, 0]  # the given one stays


@pytest.mark.parametrize("strategy", ["jit", "shard_map", "pmap"])
def test_several_devices_share_each_batch(images, state, strategy):
    step = parallel.compile(make_moments_step(Net()), strategy, devices=4, donate=False)
    for _ in range(2):  # the step and the state are good for many calls
        found = recompute_statistics(Net(), state, cut(images), step=step)
        found = jax.device_get(found.batch_stats)
        assert_close(found, expected_statistics(images, state))


def test_padding_is_left_out(images, state):
    """All of the last batch but one example is padding, and all of another one."""
    (first, *_), rng = cut(images), np.random.default_rng(1)
    padded = {"image": rng.uniform(size=(4, 2, 2, 3)), "mask": np.arange(4) < 1}
    nothing = {"image": padded["image"], "mask": np.zeros(4, bool)}
    found = recompute_statistics(Net(), state, [first, padded, nothing]).batch_stats
    kept = [first["image"], padded["image"][:1]]
    expected = population([(np.float64(part) - 0.3) / 0.2 for part in kept])
    assert_close(found, {"first": expected})


def test_moving_averages_have_statistics_of_their_own(images, state):
    average = {"params": jax.tree.map(lambda x: x + 0.1, state.params)}
    both = state.replace(ema={**average, "batch_stats": state.batch_stats})
    found = recompute_statistics(Net(), both, cut(images))
    assert found.batch_stats is state.batch_stats
    other = expected_statistics(images, state.replace(params=average["params"]))
    assert_close(found.ema["batch_stats"], {"first": other["first"]})
    alone = recompute_statistics(Net(), state.replace(params=average["params"]), cut(images))
    np.testing.assert_array_equal(
        found.ema["batch_stats"]["second"]["var"], alone.batch_stats["second"]["var"]
    )


def test_without_batch_norm_or_examples_there_is_nothing_to_recompute(images, state):
    with pytest.raises(ValueError, match="the batches hold no example"):
        recompute_statistics(Net(), state, [])
    with pytest.raises(ValueError, match=r"reaches no convnets.layers.BatchNorm"):
        recompute_statistics(Unnormalized(), state, cut(images))
    with pytest.raises(ValueError, match="no batch norm"):
        recompute_statistics(Dense(3), state.replace(batch_stats={}), cut(images))


def test_what_is_no_batch_is_refused(images, state):
    for batches in (images, [{"label": 3}], [{"image": images[0]}]):
        with pytest.raises(ValueError, match=r"a batch is a dict with the images \[B, H, W, C\]"):
            recompute_statistics(Net(), state, batches)
