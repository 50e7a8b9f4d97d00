"""Meshes of data and model give the numbers of one device, whatever lies in parts."""

from functools import cache, partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import convnets
from convnets import layers, ops
from convnets.models.classifier import Classifier
from convnets.models.cifar_resnet import BLOCKS, keep, stem3x3
from convnets.models.resnet import ResNet
from convnets.ops import image
from convnets.ops.bands import band_borders, in_bands
from convnets.ops.primitives import Window
from convnets.parallel import compile as compile_step
from convnets.parallel import create_in_parts, create_mesh, gather
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
        state = create_in_parts(create_state, mesh, RULES[name], **options)()
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
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for (path, a), b in zip(jax.tree.leaves_with_path(actual), jax.tree.leaves(expected)):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6, err_msg=jax.tree_util.keystr(path))


@pytest.mark.parametrize("model", MESHES.values(), ids=MESHES.keys())
@pytest.mark.parametrize("name", MODELS)
def test_losses_gradients_and_states_are_those_of_one_device(name, model):
    """Batch norm, dropout, augmentation, momentum and moving averages are on."""
    mesh = create_mesh(8, model=model)
    state, found, placed, step = run(name, mesh, shard_optimizer=model == 4)
    assert_close((state, found), one_device(name))
    again = jax.tree.leaves(step.place_state(placed))
    assert all(a is b for a, b in zip(again, jax.tree.leaves(placed)))
