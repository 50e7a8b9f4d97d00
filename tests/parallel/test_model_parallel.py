"""Meshes of data and model give the numbers of one device, whatever is sharded."""

import functools
from functools import cache, partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

import convnets
from convnets import layers, ops
from convnets.models.cifar_resnet import BLOCKS, keep, stem3x3
from convnets.models.classifier import Classifier
from convnets.models.resnet import ResNet
from convnets.ops import image
from convnets.ops.bands import band_borders, in_bands
from convnets.ops.primitives import Window
from convnets.parallel import compile as compile_step
from convnets.parallel import create_mesh, create_sharded, gather
from convnets.parallel.partition import bytes_per_device
from convnets.training import gradient, update

BATCH, STEPS, SIDE = 8, 2, 16
MESHES = {"8x1": 1, "4x2": 2, "2x4": 4, "1x8": 8}  # the size of `model`


class Local(nn.Module):
    """Filters that are shared by no two pixels, 8 for each place."""

    @nn.compact
    def __call__(self, x, *, train):
        x = layers.Conv(4, 3, name="conv")(x.astype(jnp.float64))
        x = layers.LocallyConnected(8, 5, name="local")(x)
        return layers.Dense(10, name="head")(ops.global_average_pool(nn.relu(x)))


def resnet():
    """Its maps of 16 rows are cut on every mesh, those of 8 rows not over eight devices."""
    backbone = ResNet(
        stage_sizes=(1, 1),
        features=4,
        block=BLOCKS["cifar_resnet{}"],
        stem=stem3x3,
        stem_pool=keep,
    )
    return Classifier(backbone, 10, dropout=0.4, dtype=jnp.float64)


def alexnet():
    """Its dense layers are the network's own kind, behind few channels."""
    model = convnets.create_model("alexnet", num_classes=10, dtype=jnp.float64)
    backbone = model.backbone.clone(stages=((4,), (4,), (8, 8)))
    return model.clone(backbone=backbone, hidden=partial(model.hidden, features=(256, 512)))


MODELS = {"resnet": (resnet, SIDE), "alexnet": (alexnet, 63), "local": (Local, SIDE)}
RULES = {"resnet": [], "alexnet": [("head/kernel", ())], "local": [("head/*", ())]}


def with_gradients(loss_fn, optimizer):
    gradient_fn = gradient(loss_fn)

    def step(state, batch):
        grads, batch_stats, metrics = gradient_fn(state, batch)
        return update(state, grads, batch_stats, optimizer, ema=0.9), (grads, metrics)

    return step


def make_batches(side):
    rng = np.random.default_rng(0)
    for _ in range(STEPS):
        yield {
            "image": rng.integers(0, 256, (BATCH, side, side, 3), np.uint8),
            "label": rng.integers(0, 10, BATCH).astype(np.int32),
            "weight": rng.uniform(0, 5, BATCH).astype(np.float32),
        }


@cache
def setting(name):
    create, side = MODELS[name]
    model = create()
    loss_fn = convnets.classification_loss(
        model,
        normalization=convnets.Normalization((0.4, 0.5, 0.6), (0.2, 0.2, 0.3)),
        augment=image.compose(image.AUGMENTATIONS["flip"], partial(image.translate, max_shift=2)),
    )
    optimizer = optax.sgd(0.05, momentum=0.9)

    def create_state():
        images = jnp.zeros((1, side, side, 3))
        variables = model.init(jax.random.key(0), images, train=False)
        return convnets.TrainState.create(variables, optimizer, jax.random.key(1), ema=True)

    return with_gradients(loss_fn, optimizer), create_state


def run(name, mesh, **options):
    """The last state, what each step found, the state where it lies, and the compiled step."""
    step, create_state = setting(name)
    if mesh is None:
        state, step = jax.jit(create_state)(), compile_step(step, devices=1)
    else:
        state = create_sharded(create_state, mesh, RULES[name], **options)()
        step = compile_step(step, mesh=mesh, rules=RULES[name], **options)
    found = []
    for batch in make_batches(MODELS[name][1]):
        state, out = step(state, batch)
        found.append(jax.device_get(out))
    return gather(state), found, state, step


one_device = cache(lambda name: run(name, None)[:2])


@pytest.fixture(autouse=True, scope="module")
def precision():
    """Networks compute in float64: in float32 a value near 0 may pass a ReLU on one mesh only."""
    with jax.enable_x64(True):
        yield


def assert_close(actual, expected):
    """But for the rounding of parameters, which are float32, to an array's largest value."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for (path, a), b in zip(jax.tree.leaves_with_path(actual), jax.tree.leaves(expected)):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        most = 1e-6 * max(1, np.abs(b).max(initial=0))
        np.testing.assert_allclose(a, b, rtol=0, atol=most, err_msg=jax.tree_util.keystr(path))


def test_devices_hold_their_part():
    """A quarter of what is large, and of what the optimizer keeps a quarter of a half."""
    mesh = create_mesh(8, model=4)
    _, create_state = setting("alexnet")
    state = create_sharded(create_state, mesh, RULES["alexnet"], shard_optimizer=True)()
    kernels = state.params["hidden"]["dense1"]["kernel"], state.params["head"]["kernel"]
    assert set(bytes_per_device(kernels[0]).values()) == {kernels[0].nbytes // 4}
    assert set(bytes_per_device(kernels[1]).values()) == {kernels[1].nbytes}
    trace = state.opt_state[0].trace
    assert jax.tree.structure(trace) == jax.tree.structure(state.params)
    kept = trace["hidden"]["dense1"]["kernel"], trace["head"]["kernel"]
    assert set(bytes_per_device(kept[0]).values()) == {kernels[0].nbytes // 8}
    assert set(bytes_per_device(kept[1]).values()) == {kernels[1].nbytes // 2}
    average = state.ema["params"]["hidden"]["dense1"]["kernel"]
    assert average.sharding == kernels[0].sharding
    _, whole = setting("alexnet")
    alone = jax.jit(whole)()
    for path, leaf in jax.tree.leaves_with_path(gather(state.params)):
        expected = functools.reduce(lambda tree, key: tree[key.key], path, alone.params)
        np.testing.assert_array_equal(leaf, expected)


SHAPES = {  # kernel, stride, padding, dilation, groups
    "3x3": (3, 1, 1, 1, 1),
    "3x3, stride 2": (3, 2, 1, 1, 1),
    "7x7, stride 2": (7, 2, 3, 1, 1),
    "1x1, stride 2": (1, 2, 0, 1, 1),
    "4x4, stride 4": (4, 4, 0, 1, 1),
    "dilated": (3, 1, 2, 2, 1),
    "two groups": (5, 1, 2, 1, 2),
    "without padding": (3, 1, 0, 1, 1),
}


@pytest.mark.parametrize("model", [2, 8])
def test_convolutions_and_their_gradients_over_bands_are_those_of_the_whole(model):
    """Where a map has too few rows, or rows that do not divide, it is not cut."""
    mesh = create_mesh(8, model=model)
    rng = np.random.default_rng(0)
    cases = [(shape, rows) for shape in SHAPES.values() for rows in (2 * model, 4 * model, 25)]
    images = [rng.normal(size=(4, max(rows, 6), 9, 4)) for _, rows in cases]
    kernels = [rng.normal(size=(k, k, 4 // groups, 4)) for (k, *_, groups), _ in cases]

    def all_of_them(images, kernels):
        found = []
        for (shape, _), x, kernel in zip(cases, images, kernels):
            _, stride, padding, dilation, groups = shape
            options = {"stride": stride, "padding": padding, "dilation": dilation}
            convolve = partial(ops.convolve, groups=groups, **options)
            y, back = jax.vjp(convolve, jnp.tanh(x), kernel)
            found.append((y, *back(jnp.sin(jnp.arange(y.size, dtype=y.dtype).reshape(y.shape)))))
        return found

    def over_bands(images, kernels):
        with in_bands(mesh):
            return all_of_them(images, kernels)

    expected = jax.jit(all_of_them)(images, kernels)
    divided, whole = (NamedSharding(mesh, PartitionSpec(*axis)) for axis in (["data"], []))
    found = jax.jit(over_bands)(jax.device_put(images, divided), jax.device_put(kernels, whole))
    cut = 0
    for case, one, many in zip(cases, expected, found):
        for a, b in zip(many, one):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9, err_msg=str(case))
        cut += "model" in str(many[0].sharding)
    assert cut >= len(SHAPES)


POOLS = {
    "max": partial(ops.max_pool, window=2),
    "max, overlapping": partial(ops.max_pool, window=3, stride=2, padding=1),
    "max, stride 1": partial(ops.max_pool, window=3, stride=1, padding=1),
    "max to odd rows": partial(ops.max_pool, window=3, stride=2),
    "average": partial(ops.average_pool, window=3, stride=2, padding=1),
    "L2": partial(ops.l2_pool, window=5, stride=1, padding=2),
    "contrast": partial(ops.local_contrast_normalization, window=5, sigma=1.0, floor=0.01),
}


@pytest.mark.parametrize("pool", POOLS.values(), ids=POOLS.keys())
def test_pools_and_contrast_between_maps_that_are_cut_are_those_of_the_whole(pool):
    """XLA divides them, by rows that a convolution left on each device."""
    mesh = create_mesh(8, model=4)
    rng = np.random.default_rng(0)
    shapes = [(4, 16, 9, 3), (3, 3, 3, 4), (3, 3, 4, 4)]
    x, *kernels = (rng.normal(size=shape) for shape in shapes)

    def loss(x, first, second):
        cut = jnp.tanh(ops.convolve(x, first, padding=1))
        y = ops.convolve(pool(cut), second, padding=1)
        return jnp.sum(jnp.sin(y) * jnp.cos(jnp.arange(y.size).reshape(y.shape))), (cut, y)

    differentiate = jax.value_and_grad(loss, (0, 1, 2), has_aux=True)

    def over_bands(*arguments):
        with in_bands(mesh):
            return differentiate(*arguments)

    divided, whole = (NamedSharding(mesh, PartitionSpec(*axis)) for axis in (["data"], []))
    found = jax.jit(over_bands)(jax.device_put(x, divided), *jax.device_put(kernels, whole))
    (_, (cut, _)), _ = found
    assert cut.addressable_shards[0].data.shape[1] == 4
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(jax.jit(differentiate)(x, *kernels))):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-9 * max(1, np.abs(b).max()))


def test_what_is_cut():
    def borders(rows, parts, kernel=3, stride=1, padding=1):
        window = Window((stride,) * 2, ((padding,) * 2,) * 2, (1, 1), 1)
        return band_borders((8, rows, 9, 4), (kernel, kernel, 4, 4), window, parts)

    assert borders(32, 8) == (1, 1)
    assert borders(32, 8, stride=2) == (1, 0)
    assert borders(16, 8, stride=2) is None  # one row on each device is left
    assert borders(8, 8) is None
    assert borders(36, 8) is None
    assert borders(32, 8, padding=0) is None
    assert borders(16, 8, kernel=11, padding=5) is None  # more than the neighbors have


@pytest.mark.parametrize("model", MESHES.values(), ids=MESHES.keys())
@pytest.mark.parametrize("name", MODELS)
def test_losses_gradients_and_states_are_those_of_one_device(name, model):
    """Batch norm, dropout, augmentation, momentum and moving averages are on."""
    mesh = create_mesh(8, model=model)
    state, found, placed, step = run(name, mesh, shard_optimizer=model == 4)
    assert_close((state, found), one_device(name))
    again = jax.tree.leaves(step.place_state(placed))
    assert all(a is b for a, b in zip(again, jax.tree.leaves(placed)))
