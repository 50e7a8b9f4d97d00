"""Consistency of two views: by hand, alone and in a batch, on one device and on many."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import convnets
from convnets.models import MLP, Classifier
from convnets.ops import collective
from convnets.unsupervised import consistency_loss

MODEL = Classifier(MLP((8,)), num_classes=3)
IMAGES = np.float32(np.random.default_rng(0).uniform(size=(8, 4, 4, 1)))


def brighten(key, image):
    return image * jax.random.uniform(key, (), minval=0.2)


@pytest.fixture(scope="module")
def params():
    return MODEL.init(jax.random.key(0), IMAGES[:1], train=False)["params"]


def test_it_is_the_squared_distance_of_the_probabilities_of_two_views(params):
    key, mask = jax.random.key(1), np.arange(8) < 6
    batch = {"image": IMAGES, "mask": mask}
    loss, (_, measured) = consistency_loss(MODEL, augment=brighten)(params, {}, batch, key)
    views = []
    for one in jax.random.split(key):
        keys = collective.example_keys(jax.random.split(one)[0], 8)
        images = np.stack([brighten(k, x) for k, x in zip(keys, IMAGES)])
        logits = np.float64(MODEL.apply({"params": params}, images, train=False))
        views.append(np.exp(logits) / np.exp(logits).sum(1, keepdims=True))
    values = ((views[0] - views[1]) ** 2).sum(1)[mask]
    agree = (views[0].argmax(1) == views[1].argmax(1))[mask]
    assert values.mean() > 1e-5
    assert float(loss) == pytest.approx(values.mean(), rel=1e-4)
    found = convnets.metrics.finish(measured)
    assert found["loss"] == pytest.approx(values.mean(), rel=1e-4)
    assert found["agreement"] == agree.mean()


def test_in_evaluation_both_views_are_the_image(params):
    loss_fn = consistency_loss(MODEL, augment=brighten)
    loss, (_, measured) = loss_fn(params, {}, {"image": IMAGES}, None)
    assert float(loss) == 0
    assert not loss_fn.ranks
    assert convnets.metrics.finish(measured)["agreement"] == 1


def test_batch_statistics_go_through_both_views():
    class Normalized(nn.Module):
        @nn.compact
        def __call__(self, images, *, train: bool):
            x = images.reshape(len(images), -1)
            return convnets.layers.BatchNorm(momentum=0.5)(x, train=train)[:, :3]

    model = Normalized()
    variables = model.init(jax.random.key(0), IMAGES, train=False)
    loss_fn = consistency_loss(model, augment=brighten)
    key = jax.random.key(1)
    _, (stats, _) = loss_fn(variables["params"], variables["batch_stats"], {"image": IMAGES}, key)
    expected = np.zeros(16)
    for one in jax.random.split(key):
        keys = collective.example_keys(jax.random.split(one)[0], 8)
        seen = np.stack([brighten(k, x) for k, x in zip(keys, IMAGES)]).reshape(8, -1)
        expected = 0.5 * expected + 0.5 * seen.mean(0)
    (mean,) = [x for path, x in jax.tree.leaves_with_path(stats) if "mean" in str(path)]
    np.testing.assert_allclose(mean, expected, rtol=1e-5)


def test_every_compilation_takes_the_same_step(params):
    optimizer, found = optax.sgd(0.1), {}
    for strategy, devices in (("jit", 1), ("shard_map", 4)):
        step = convnets.make_step(consistency_loss(MODEL, augment=brighten), optimizer)
        step = convnets.parallel.compile(step, strategy, devices=devices)
        state = convnets.TrainState.create({"params": params}, optimizer, jax.random.key(2))
        *_, (_, state, _) = convnets.train(step, state, [{"image": IMAGES}] * 2, stop=2)
        found[strategy] = convnets.parallel.gather(state).params
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-6), found["jit"], found["shard_map"])
    assert not jnp.allclose(
        found["jit"]["backbone"]["dense1"]["kernel"], params["backbone"]["dense1"]["kernel"]
    )
