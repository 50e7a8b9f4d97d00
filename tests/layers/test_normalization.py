"""Batch normalization has one meaning, that of NumPy loops, however the devices share the batch."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from convnets import ops
from convnets.layers import (
    BatchNorm,
    Dropout,
    LayerNorm,
    constant,
    group_batch_norm,
    run_stage,
    switch_batch_norm,
)
from convnets.ops import collective, onednn

from ..spreading import WAYS, spread

RNG = np.random.default_rng(0)
KEY = jax.random.key(0)
LOWERINGS = ["xla", "onednn"] if onednn.available() else ["xla"]
BATCH = 24  # three examples on each of eight devices
SHAPES = [(BATCH, 3, 2, 4), (BATCH, 4)]


def make_variables(channels=4):
    draw = RNG.normal(1, 1, (3, channels)).astype(np.float32)
    return {
        "params": {"scale": draw[0], "bias": draw[1]},
        "batch_stats": {"mean": draw[2], "var": RNG.uniform(1, 2, channels).astype(np.float32)},
    }


def draw_examples(shape, mean=3.0):
    """Examples of ever larger mean and deviation, so that it matters who is in which group."""
    growth = np.linspace(1, 2, shape[0]).reshape(-1, *(1,) * (len(shape) - 1))
    return (mean + growth * RNG.normal(0.5, 1, shape)).astype(np.float32)


def normalize_in_loops(x, params, group_size, epsilon=1e-5):
    """The output, and the mean of the groups' means and of their variances, all in float64."""
    groups = x.astype(np.float64).reshape(len(x) // group_size, group_size, -1, x.shape[-1])
    y, means, variances = np.zeros_like(groups), [], []
    for g, group in enumerate(groups):
        for c in range(x.shape[-1]):
            values = group[..., c]
            mean = sum(values.ravel()) / values.size
            variance = sum((values.ravel() - mean) ** 2) / values.size
            deviation = (variance + epsilon) ** 0.5
            scale, bias = params["scale"][c], params["bias"][c]
            y[g, ..., c] = scale * (values - mean) / deviation + bias
            means.append(mean)
            variances.append(variance)
    table = np.array([means, variances]).reshape(2, len(groups), -1)
    return y.reshape(x.shape), *table.mean(1)


def train_apply(layer, variables, x):
    return layer.apply(variables, x, train=True, mutable=["batch_stats"])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("group_size", [None, 6])
def test_training_output_and_running_statistics_are_the_loops(shape, group_size):
    variables, layer = make_variables(), BatchNorm(momentum=0.8, group_size=group_size)
    params = variables["params"]
    running = [variables["batch_stats"][name].astype(np.float64) for name in ("mean", "var")]
    for step in range(3):
        x = draw_examples(shape, mean=step)
        y, updates = train_apply(layer, variables, x)
        expected, *followed = normalize_in_loops(x, params, group_size or BATCH)
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
        running = [0.8 * old + 0.2 * new for old, new in zip(running, followed)]
        variables = {"params": params, **updates}
    assert set(variables["batch_stats"]) == {"mean", "var"}
    np.testing.assert_allclose(variables["batch_stats"]["mean"], running[0], rtol=1e-5)
    np.testing.assert_allclose(variables["batch_stats"]["var"], running[1], rtol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_evaluation_uses_the_running_statistics_and_leaves_them(shape):
    variables, x = make_variables(), draw_examples(shape)
    (scale, bias), (mean, variance) = (
        [tree[name].astype(np.float64) for name in sorted(tree, reverse=reverse)]
        for tree, reverse in ((variables["params"], True), (variables["batch_stats"], False))
    )
    expected = np.zeros(shape)
    for *at, c in np.ndindex(shape):
        deviation = (variance[c] + 0.1) ** 0.5
        expected[(*at, c)] = scale[c] * (x[(*at, c)] - mean[c]) / deviation + bias[c]
    layer = BatchNorm(epsilon=0.1, group_size=5)  # groups play no part here
    y, updates = layer.apply(variables, x, train=False, mutable=["batch_stats"])
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
    for name, value in variables["batch_stats"].items():
        assert updates["batch_stats"][name].tolist() == value.tolist()
    alone = layer.apply(variables, x[:1], train=False)
    np.testing.assert_allclose(alone, y[:1], rtol=1e-6, atol=1e-6)


def plain_loss(params, x, weights, group_size, epsilon=1e-5):
    """What the gradients below are those of, written down without the layer."""
    groups = x.reshape(len(x) // group_size, -1, x.shape[-1])
    mean = groups.mean(1, keepdims=True)
    variance = ((groups - mean) ** 2).mean(1, keepdims=True)
    normal = ((groups - mean) / jnp.sqrt(variance + epsilon)).reshape(x.shape)
    y = params["scale"].reshape(1, 1, 1, -1) * normal + params["bias"].reshape(1, 1, 1, -1)
    return (weights * jnp.sin(y)).sum()


@pytest.mark.parametrize("group_size", [None, 4, 12])  # groups of 4 begin and end inside devices
@pytest.mark.parametrize("way", WAYS)
def test_every_compilation_gives_the_numbers_and_gradients_of_the_whole_batch(way, group_size):
    variables, layer = make_variables(), BatchNorm(group_size=group_size)
    x, weights = draw_examples((BATCH, 3, 2, 4)), RNG.normal(size=(BATCH, 3, 2, 4))

    def numbers(variables, batch):
        x, weights = batch

        def loss(params, x):
            here = {"params": params, "batch_stats": variables["batch_stats"]}
            y, updates = train_apply(layer, here, x)
            return (weights * jnp.sin(y)).sum(), (y, updates["batch_stats"])

        params = collective.varying_over_data(variables["params"])
        grads, (y, updated) = jax.grad(loss, argnums=(0, 1), has_aux=True)(params, x)
        return (collective.sum_over_data(grads[0]), updated), (y, grads[1])

    batch = x, weights.astype(np.float32)
    (of_params, updated), (y, of_x) = spread(numbers, way, variables, batch)

    expected, mean, variance = normalize_in_loops(x, variables["params"], group_size or BATCH)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
    for name, new in (("mean", mean), ("var", variance)):
        old = variables["batch_stats"][name]
        np.testing.assert_allclose(updated[name], 0.9 * old + 0.1 * new, rtol=1e-5, err_msg=name)
    with jax.enable_x64(True):
        arguments = (variables["params"], x, batch[1])
        wide = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), arguments)
        exact = jax.grad(plain_loss, (0, 1))(*wide, group_size or BATCH)
        exact = jax.device_get(exact)
    np.testing.assert_allclose(of_x, exact[1], rtol=1e-5, atol=1e-5)
    for name in ("scale", "bias"):
        np.testing.assert_allclose(of_params[name], exact[0][name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("group_size", [None, 2])
@pytest.mark.parametrize("train", [True, False])
def test_gradients_are_the_finite_differences(train, group_size):
    variables, layer = make_variables(3), BatchNorm(group_size=group_size)
    x = draw_examples((4, 2, 2, 3))

    def apply(params, x):
        variables_there = {"params": params, "batch_stats": batch_stats}
        return layer.apply(variables_there, x, train=train, mutable=["batch_stats"])

    with jax.enable_x64(True):
        x, variables = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), (x, variables))
        batch_stats = variables["batch_stats"]
        arguments = (variables["params"], x)
        assert {leaf.dtype for leaf in jax.tree.leaves(apply(*arguments))} == {jnp.dtype("float64")}
        check_grads(jax.jit(apply), arguments, order=1, eps=1e-4, atol=1e-7, rtol=1e-7)


@pytest.mark.parametrize("group_size", [None, 8])
def test_exact_far_from_zero(group_size):
    """Mean 1000, deviation 1. The mean, summed in float32, is right to 1e-6 of itself; one pass
    over the squares would have missed the variance by a tenth."""
    layer = BatchNorm(momentum=0.0, group_size=group_size)
    x = RNG.normal(1000, 1, (BATCH, 5, 5, 4)).astype(np.float32)
    variables = layer.init(KEY, x, train=False)
    y, updates = train_apply(layer, variables, x)
    expected, mean, variance = normalize_in_loops(x, variables["params"], group_size or BATCH)
    np.testing.assert_allclose(y, expected, atol=1e-3)
    np.testing.assert_allclose(updates["batch_stats"]["mean"], mean, rtol=1e-6)
    np.testing.assert_allclose(updates["batch_stats"]["var"], variance, rtol=2e-6)


@pytest.mark.parametrize("group_size", [None, 6])
def test_half_precision_in_half_precision_out_float32_between(group_size):
    variables, layer = make_variables(), BatchNorm(momentum=0.0, group_size=group_size)
    x = jnp.asarray(draw_examples((BATCH, 5, 5, 4), mean=30), jnp.bfloat16)
    y, updates = train_apply(layer, variables, x)
    assert y.dtype == layer.apply(variables, x, train=False).dtype == jnp.bfloat16
    seen = np.asarray(x, np.float64)
    expected, mean, variance = normalize_in_loops(seen, variables["params"], group_size or BATCH)
    np.testing.assert_allclose(np.asarray(y, np.float64), expected, rtol=2**-8, atol=1e-4)
    for name, value in (("mean", mean), ("var", variance)):
        assert updates["batch_stats"][name].dtype == jnp.float32
        np.testing.assert_allclose(updates["batch_stats"][name], value, rtol=1e-5)


@pytest.mark.parametrize("lowering", LOWERINGS)  # the sums are two programs
def test_half_precision_far_from_zero_is_exact_where_its_own_arithmetic_is_not(lowering):
    """Mean 200.4, deviation 2, where neighbors in bfloat16 are 1 apart."""
    layer = BatchNorm(momentum=0.0)
    rng = np.random.default_rng(1)
    x = jnp.asarray(rng.normal(200.4, 2, (BATCH, 5, 5, 4)), jnp.bfloat16)
    variables, seen = layer.init(KEY, x, train=False), np.asarray(x, np.float64)
    apply = jax.jit(ops.lowering(lowering)(partial(train_apply, layer)))
    y, updates = apply(variables, x)
    expected, mean, variance = normalize_in_loops(seen, variables["params"], BATCH)
    np.testing.assert_allclose(updates["batch_stats"]["mean"], mean, rtol=1e-6)
    np.testing.assert_allclose(updates["batch_stats"]["var"], variance, rtol=1e-5)
    np.testing.assert_allclose(np.asarray(y, np.float64), expected, rtol=2**-8, atol=1e-4)

    squares = np.asarray(jnp.square(x), np.float64)  # rounded to bfloat16, then summed exactly
    assert (abs(squares.mean((0, 1, 2)) - mean**2 - variance) > 0.1 * variance).any()
    shifted = np.asarray(
        x - jnp.asarray(mean, x.dtype).reshape(1, 1, 1, 4), np.float64
    )  # by a mean in bfloat16
    assert np.abs(shifted / np.sqrt(variance) - expected).max((0, 1, 2)).min() > 0.1


class Frozen(nn.Module):
    """Batch norm and dropout in a stage that the backward pass computes again, or not."""

    checkpoint: bool

    @nn.compact
    def __call__(self, x, *, train: bool):
        return run_stage(self, Frozen.stage, x, train=train)

    def stage(self, x, train):
        x = BatchNorm(name="norm")(x, train=train)
        return jnp.sin(Dropout(0.5, name="dropout")(x, train=train))


@pytest.mark.parametrize("checkpoint", [False, True])
def test_frozen_batch_norm_is_that_of_the_test_and_dropout_stays_on(checkpoint):
    variables, x = make_variables(), draw_examples((BATCH, 4))
    model = Frozen(checkpoint)
    variables = {name: {"norm": tree} for name, tree in variables.items()}

    def run(params, x):
        with switch_batch_norm(train=False):
            return model.apply(
                {**variables, "params": params},
                x,
                train=True,
                rngs={"dropout": KEY},
                mutable=["batch_stats"],
            )

    def loss(params, x):
        y, updates = run(params, x)
        return y.sum(), (y, updates["batch_stats"])

    grads, (y, updates) = jax.grad(loss, (0, 1), has_aux=True)(variables["params"], x)
    kept = np.asarray(y) != 0
    assert 0.3 < kept.mean() < 0.7
    params, running = variables["params"]["norm"], variables["batch_stats"]["norm"]
    factor = np.float64(params["scale"]) / np.sqrt(np.float64(running["var"]) + 1e-5)
    normal = (x - np.float64(running["mean"])) * factor + params["bias"]
    np.testing.assert_allclose(y, np.where(kept, np.sin(2 * normal), 0), rtol=1e-4, atol=1e-5)
    for name, value in running.items():
        assert updates["norm"][name].tolist() == value.tolist()
    slope = np.where(kept, 2 * np.cos(2 * normal), 0)  # none by way of the batch's statistics
    np.testing.assert_allclose(grads[1], slope * factor, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(grads[0]["norm"]["bias"], slope.sum(0), rtol=1e-4, atol=1e-4)


def test_the_whole_batch_is_sown_where_it_is_asked_for_alone():
    """However it is grouped, and whichever devices hold it."""
    variables, x = make_variables(), draw_examples((BATCH, 3, 2, 4))
    layer = BatchNorm(group_size=6)
    _, updates = train_apply(layer, variables, x)
    assert set(updates) == {"batch_stats"}
    _, mean, variance = normalize_in_loops(x, variables["params"], BATCH)

    def sow(variables, x):
        mutable = ["batch_stats", "batch_moments"]
        y, updates = layer.apply(variables, x, train=True, mutable=mutable)
        return updates["batch_moments"]["moments"], y

    for way in WAYS:
        (found,), _ = spread(sow, way, variables, x)
        for value, wanted in zip(found, (mean, variance, BATCH * 6)):
            np.testing.assert_allclose(value, wanted, rtol=1e-5, err_msg=way)


def test_groups_are_of_batch_norm():
    norm = group_batch_norm(group_batch_norm(partial(BatchNorm, momentum=0.5), 4), 8)
    assert (norm().group_size, norm().momentum) == (8, 0.5)
    for norm in (None, LayerNorm, lambda **options: BatchNorm(**options)):
        with pytest.raises(TypeError, match="is no batch norm"):
            group_batch_norm(norm, 8)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_variables_do_not_depend_on_train_and_initialization_moves_nothing(dtype):
    x = jnp.asarray(draw_examples((4, 2, 2, 3)), dtype)
    layer = BatchNorm(scale_init=constant(2.0), bias_init=constant(3.0))
    for train in (True, False):
        variables = layer.init(KEY, x, train=train)
        assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
        assert jax.tree.map(lambda leaf: leaf.tolist(), variables) == {
            "params": {"scale": [2, 2, 2], "bias": [3, 3, 3]},
            "batch_stats": {"mean": [0, 0, 0], "var": [1, 1, 1]},
        }


def test_what_does_not_fit_is_refused():
    with pytest.raises(TypeError, match="uint8"):
        BatchNorm().init(KEY, jnp.zeros((4, 2), jnp.uint8), train=True)
    variables, x = make_variables(), jnp.zeros((BATCH, 4))
    with pytest.raises(ValueError, match="24 examples does not divide into groups of 7"):
        train_apply(BatchNorm(group_size=7), variables, x)
    with pytest.raises(TypeError, match="train"):
        BatchNorm().apply(variables, x)


def test_layer_norm_equals_loops():
    x = RNG.normal(2, 3, (2, 3, 4, 5))
    scale, bias = RNG.normal(1, 1, (2, 5))
    expected = np.empty(x.shape)
    for place in np.ndindex(x.shape[:3]):
        pixel = x[place]
        expected[place] = (pixel - pixel.mean()) / np.sqrt(pixel.var() + 1e-2) * scale + bias
    variables = {"params": {"scale": scale, "bias": bias}}
    layer = LayerNorm(epsilon=1e-2)
    y = layer.apply(jax.tree.map(np.float32, variables), x.astype(np.float32))
    assert y.dtype == jnp.float32
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
    with jax.enable_x64(True):
        np.testing.assert_allclose(layer.apply(variables, x), expected, rtol=1e-12)
        check_grads(jax.jit(layer.apply), (variables, x), order=1, eps=1e-5, atol=1e-7, rtol=1e-7)
    small = (1e-3 * x).astype(np.float32)  # of a variance near the epsilon that is the default
    y = LayerNorm().apply({"params": {"scale": np.ones(5, np.float32), "bias": np.zeros(5)}}, small)
    deviations = np.sqrt(small.var(-1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(y, (small - small.mean(-1, keepdims=True)) / deviations, rtol=1e-3)
    half = layer.apply(jax.tree.map(np.float32, variables), x.astype(jnp.bfloat16))
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(np.float32), expected, rtol=0.05, atol=0.1)
    with pytest.raises(TypeError, match="int32"):
        layer.apply(variables, jnp.ones((2, 5), jnp.int32))
