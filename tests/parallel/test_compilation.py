"""The same step on one device, under jit over a mesh, shard_map and pmap gives the same numbers."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import convnets
from convnets import layers, ops
from convnets.layers import BatchNorm
from convnets.models.cifar_resnet import BLOCKS, keep, stem3x3
from convnets.models.classifier import Classifier
from convnets.models.resnet import ResNet
from convnets.ops import collective, image
from convnets.parallel import compile as compile_step
from convnets.parallel import create_mesh, gather
from convnets.training import gradient, update

STEPS, BATCH = 5, 24
STRATEGIES = ["jit", "shard_map", "pmap"]


def small_resnet(group_size):
    """A residual net with batch norm, over the whole batch or groups, and dropout."""
    backbone = ResNet(
        stage_sizes=(1, 1),
        features=8,
        block=BLOCKS["cifar_resnet{}"],
        stem=stem3x3,
        stem_pool=keep,
        norm=partial(BatchNorm, group_size=group_size),
    )
    return Classifier(backbone, 10, dropout=0.4)


def draw_variables(model, *image_shape):
    """Variables as at a start, but drawn by NumPy: `init` takes longer to compile than a step."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        if path[-1].key == "kernel":
            scale = np.sqrt(2 / np.prod(leaf.shape[:-1]))
            return jnp.asarray(scale * rng.standard_normal(leaf.shape), leaf.dtype)
        return jnp.full(leaf.shape, path[-1].key in ("scale", "var"), leaf.dtype)

    init = partial(model.init, train=False)
    shapes = jax.eval_shape(init, jax.random.key(0), jnp.zeros((1, *image_shape)))
    return jax.tree_util.tree_map_with_path(draw, shapes)


def make_batches(weighted):
    rng = np.random.default_rng(0)
    batches = []
    for _ in range(STEPS):
        batch = {
            "image": rng.integers(0, 256, (BATCH, 12, 12, 3), np.uint8),
            "label": rng.integers(0, 10, BATCH).astype(np.int32),
        }
        if weighted:
            batch["weight"] = rng.uniform(0, 5, BATCH).astype(np.float32)
            batch["weight"][: BATCH // 8] = 0  # the first of eight devices has no say at all
        batches.append(batch)
    return batches


def with_gradients(loss_fn, optimizer):
    """A training step that returns its gradients beside its metrics."""
    gradient_fn = gradient(loss_fn)

    def step(state, batch):
        grads, batch_stats, metrics = gradient_fn(state, batch)
        return update(state, grads, batch_stats, optimizer, ema=0.9), (grads, metrics)

    return step


def run(strategy, devices, group_size, weighted, accumulate=1, steps_per_call=1):
    """The state after all steps, and the gradients and metrics of each call."""
    model = small_resnet(group_size)
    loss_fn = convnets.classification_loss(
        model,
        normalization=convnets.Normalization((0.4, 0.5, 0.6), (0.2, 0.2, 0.3)),
        augment=image.compose(image.AUGMENTATIONS["flip"], partial(image.translate, max_shift=2)),
        label_smoothing=0.1,
    )
    optimizer = optax.sgd(0.05, momentum=0.9)
    if accumulate > 1:
        optimizer = optax.MultiSteps(optimizer, accumulate).gradient_transformation()
    state = convnets.TrainState.create(
        draw_variables(model, 12, 12, 3), optimizer, jax.random.key(1), ema=True
    )
    step = compile_step(
        with_gradients(loss_fn, optimizer),
        strategy,
        devices=devices,
        steps_per_call=steps_per_call,
    )
    batches, record = make_batches(weighted), []
    for start in range(0, STEPS, steps_per_call):
        several = batches[start : start + steps_per_call]
        state, out = step(state, several if steps_per_call > 1 else several[0])
        record.append(jax.device_get(out))
    assert state.step.sharding.device_set == set(jax.devices()[:devices])
    return gather(state), record


@pytest.fixture(scope="module")
def one_device():
    """The run on one device, computed once for each kind of statistics and weights."""
    cache = {}

    def get(*case):
        if case not in cache:
            cache[case] = run("jit", 1, *case)
        return cache[case]

    return get


def assert_close(actual, expected):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for (path, a), b in zip(jax.tree.leaves_with_path(actual), jax.tree.leaves(expected)):
        a, b = np.asarray(a), np.asarray(b)
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5, err_msg=jax.tree_util.keystr(path))


@pytest.mark.parametrize("group_size", [None, 3, 6])  # six examples are the shares of two devices
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_eight_devices_equal_one(one_device, strategy, group_size):
    assert_close(run(strategy, 8, group_size, True), one_device(group_size, True))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_several_steps_in_a_call_equal_one_at_a_time(one_device, strategy):
    """Three, then the two that are left, of an update every two."""
    state, record = run(strategy, 8, None, True, accumulate=2, steps_per_call=3)
    expected, alone = one_device(None, True, 2)
    assert_close(state, expected)
    assert len(record) == 2
    for found, parts in zip(record, (alone[:3], alone[3:])):
        assert_close(found, jax.tree.map(lambda *x: np.sum(x, axis=0, dtype=x[0].dtype), *parts))


def count_pixels(state, batch):
    """A step that any change of the batches would change."""
    pixels = collective.sum_over_data(batch["image"].astype(jnp.int32).sum())
    place = collective.global_indices(len(batch["label"])) + 1
    labels = collective.sum_over_data((place * batch["label"]).sum())
    return 3 * state + pixels + labels, {"pixels": (pixels, 1), "labels": (labels, 1)}


@pytest.mark.parametrize("steps_per_call", [1, 3])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_examples_on_the_devices_are_gathered_by_the_step(strategy, steps_per_call):
    rng = np.random.default_rng(0)
    examples = {
        "image": rng.integers(0, 256, (50, 4, 4, 1), np.uint8),
        "label": rng.integers(0, 10, 50).astype(np.int32),
    }
    chosen = [rng.permutation(50)[:16].astype(np.int32) for _ in range(STEPS)]
    batches = [{name: array[indices] for name, array in examples.items()} for indices in chosen]
    plain = compile_step(count_pixels, devices=1)
    expected = [plain(jnp.int32(0), batches[0])]
    for batch in batches[1:]:
        expected.append(plain(expected[-1][0], batch))

    step = compile_step(
        count_pixels, strategy, devices=8, examples=examples, steps_per_call=steps_per_call
    )
    state, total = jnp.int32(0), 0
    for start in range(0, STEPS, steps_per_call):
        several = chosen[start : start + steps_per_call]
        state, out = step(state, several if steps_per_call > 1 else several[0])
        total += int(out["labels"][0])
    assert int(state) == int(expected[-1][0])
    assert total == sum(int(out["labels"][0]) for _, out in expected)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_batches_placed_before_are_stacked_where_they_lie(strategy):
    rng = np.random.default_rng(0)
    batches = [
        {"image": rng.integers(0, 256, (16, 4, 4, 1)), "label": rng.integers(0, 10, 16)}
        for _ in range(2)
    ]
    step = compile_step(count_pixels, strategy, devices=8, steps_per_call=3)
    from_host, _ = step(jnp.int32(0), batches)
    placed, _ = step(jnp.int32(0), [step.place_batch(batch) for batch in batches])
    backwards, _ = step(jnp.int32(0), batches[::-1])
    assert int(placed) == int(from_host) != int(backwards)
    with pytest.raises(convnets.UserError, match="100 examples does not divide over 8"):
        step(jnp.int32(0), [{"image": np.zeros((100, 4, 4, 1)), "label": np.zeros(100)}])


def test_a_loss_that_is_not_finite_stays_so_in_the_sum():
    def step(state, batch):
        return state, {"loss": (batch.sum(), 1)}

    values = [np.float32([1]), np.float32([np.nan]), np.float32([1])]
    _, metrics = compile_step(step, devices=1, steps_per_call=3)(jnp.zeros(()), values)
    assert np.isnan(metrics["loss"][0])
    assert int(metrics["loss"][1]) == 3
    with pytest.raises(convnets.UserError, match="at least 1 step, not 0"):
        compile_step(step, steps_per_call=0)


def test_unweighted_on_three_devices(one_device):
    assert_close(run("shard_map", 3, None, False), one_device(None, False))


def test_groups_and_weights_change_the_numbers(one_device):
    """Else the comparisons above would not see them."""
    whole = one_device(None, True)[0].params["head"]["kernel"]
    for other in (one_device(3, True), one_device(6, True), one_device(None, False)):
        assert np.abs(whole - other[0].params["head"]["kernel"]).max() > 1e-3


@pytest.mark.parametrize("check_vma", [True, False])
def test_gradients_do_not_depend_on_check_vma(check_vma):
    model = small_resnet(None)
    loss_fn = convnets.classification_loss(model)
    optimizer = optax.sgd(0.05)
    state = convnets.TrainState.create(
        draw_variables(model, 12, 12, 3), optimizer, jax.random.key(1)
    )
    batch = make_batches(True)[0]
    alone, _, _ = jax.jit(gradient(loss_fn))(state, batch)
    replicated = jax.sharding.PartitionSpec()
    mapped = jax.shard_map(
        gradient(loss_fn),
        mesh=create_mesh(8),
        in_specs=(replicated, jax.sharding.PartitionSpec("data")),
        out_specs=replicated,
        check_vma=check_vma,
    )
    assert_close(jax.jit(mapped)(state, batch)[0], alone)


def test_caller_keeps_the_state_and_a_placed_one_is_donated():
    step = compile_step(lambda state, batch: ({"w": state["w"] + 1}, batch.sum()), devices=1)
    state = {"w": jnp.zeros(4)}
    placed, _ = step(state, np.ones(2, np.float32))
    assert state["w"].tolist() == [0, 0, 0, 0]
    after, _ = step(placed, np.ones(2, np.float32))
    assert placed["w"].is_deleted()
    assert after["w"].tolist() == [2, 2, 2, 2]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_batch_that_does_not_divide_is_refused_with_the_numbers(strategy):
    step = compile_step(lambda state, batch: state, strategy, devices=8)
    with pytest.raises(
        convnets.UserError, match="100 examples does not divide over 8 .* 96 or 104"
    ):
        step(jnp.zeros(()), np.zeros((100, 1)))


def test_unknown_strategy_and_too_many_devices():
    with pytest.raises(convnets.UserError, match="did you mean 'shard_map'"):
        compile_step(lambda state, batch: state, "shardmap")
    with pytest.raises(convnets.UserError, match="99 devices were asked for; there are 8"):
        compile_step(lambda state, batch: state, devices=99)


def test_unequal_results_of_the_devices_are_refused_under_shard_map():
    step = compile_step(lambda state, batch: batch.sum(), "shard_map", devices=8)
    with pytest.raises(ValueError, match="replicat|vma|varying|out_specs"):
        step(jnp.zeros(()), np.zeros(8, np.float32))


class TiedNet(nn.Module):
    """Its maximum pooling meets equal values, where an augmentation has filled in a constant."""

    @nn.compact
    def __call__(self, x, *, train):
        x = layers.Conv(6, 3, use_bias=False)(x)
        x = layers.Dropout(0.4)(nn.relu(BatchNorm()(x, train=train)), train=train)
        x = ops.max_pool(x, 3, 2, 1)
        x = layers.Conv(8, 3, groups=2, use_bias=False)(x)
        x = ops.global_average_pool(nn.relu(BatchNorm()(x, train=train)))
        return layers.Dense(10)(layers.Dropout(0.4)(x, train=train))


def test_no_gradient_is_lost_where_maxima_tie():
    model = TiedNet()
    loss_fn = convnets.classification_loss(
        model,
        normalization=convnets.Normalization((0.3,), (0.2,)),
        augment=image.compose(image.translate, image.rotate, image.flip_horizontal),
        label_smoothing=0.1,
    )
    variables = draw_variables(model, 9, 9, 1)
    variables = jax.tree.map(
        lambda x: x + 0.1 * np.random.default_rng(x.size).standard_normal(x.shape, np.float32),
        variables,
    )
    variables["batch_stats"] = jax.tree.map(jnp.abs, variables["batch_stats"])
    state = convnets.TrainState.create(variables, optax.sgd(0.1), jax.random.key(7))
    rng = np.random.default_rng(1)
    batch = {
        "image": rng.integers(0, 256, (30, 9, 9, 1)).astype(np.uint8),
        "label": rng.integers(0, 10, 30).astype(np.int32),
        "weight": np.eye(30, dtype=np.float32)[-1],
    }

    def grads_of(strategy, devices):
        def gradient_fn(state, batch):
            return gradient(loss_fn)(state, batch)[0]

        step = compile_step(gradient_fn, strategy, devices=devices, donate=False)
        return jax.device_get(step(state, batch))

    one = grads_of("jit", 1)
    for strategy in STRATEGIES:
        assert_close(grads_of(strategy, 6), one)


@pytest.mark.parametrize("devices", [1, 8])
def test_a_placed_batch_is_a_copy(devices):
    step = compile_step(lambda state, batch: (state, batch["x"]), devices=devices, donate=False)
    memory = np.zeros(4096 + 64, np.uint8)
    start = -memory.ctypes.data % 64  # what lies so, XLA could take as it is
    x = memory[start : start + 4096].view(np.float32).reshape(8, -1)
    placed = step.place_batch({"x": x})
    x[:] = 77
    assert (np.asarray(placed["x"]) == 0).all()
