"""k-means: clusters that are there are found, as scikit-learn finds them, on any devices.

What is found depends on the first images: here one of each cluster comes first.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.cluster import KMeans as Reference

import convnets
from convnets.errors import UserError
from convnets.unsupervised import KMeans, clustering_loss
from convnets.unsupervised.clustering import begin_again, squared_distances

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
TRUE = RNG.normal(size=(4, 6)).astype(np.float32) * 3
WHICH = np.concatenate([np.arange(4), RNG.integers(0, 4, 396)])
X = (TRUE[WHICH] + 0.2 * RNG.normal(size=(400, 6))).astype(np.float32)
IMAGES = jnp.asarray(X.reshape(400, 2, 3, 1))


def train(steps, strategy="jit", devices=1, begin=None):
    model, optimizer = KMeans(4), optax.sgd(0.1)
    variables = model.init(KEY, IMAGES, train=False)
    batch_stats = {**variables["batch_stats"], **(begin or {})}
    state = convnets.TrainState.create({"params": {}, "batch_stats": batch_stats}, optimizer, KEY)
    step = convnets.make_step(clustering_loss(model), optimizer)
    step = convnets.parallel.compile(step, strategy, devices=devices)
    for number in range(steps):
        batch = IMAGES[40 * (number % 10) : 40 * (number % 10 + 1)]
        state, measured = step(state, {"image": batch})
    return model, convnets.parallel.gather(state), convnets.metrics.finish(measured)


def test_the_centers_are_those_of_scikit_learn():
    model, state, measured = train(100)
    centers = state.batch_stats["centers"]
    expected = Reference(4, n_init=10, random_state=0).fit(X)
    away = np.asarray(squared_distances(centers, jnp.asarray(expected.cluster_centers_)))
    assert sorted(away.argmin(1)) == [0, 1, 2, 3]
    assert away.min(1).max() < 0.02
    assert measured["unexplained"] < 0.05
    code = model.apply({"batch_stats": state.batch_stats}, IMAGES, train=False)["code"]
    labels = np.asarray(away.argmin(1))[np.asarray(code).argmax(1)]
    np.testing.assert_array_equal(labels, expected.labels_)


def test_a_first_batch_makes_means():
    _, state, _ = train(1)
    batch, begin = X[:40], X[:4]
    nearest = ((batch[:, None] - begin[None]) ** 2).sum(2).argmin(1)
    for number in range(4):
        mine = batch[nearest == number]
        expected = mine.mean(0) if len(mine) else begin[number]
        np.testing.assert_allclose(state.batch_stats["centers"][number], expected, rtol=1e-4)
        assert state.batch_stats["counts"][number] == len(mine)


def test_the_same_numbers_on_many_devices():
    one = train(12)[1].batch_stats["centers"]
    for strategy in ("jit", "shard_map"):
        many = train(12, strategy, devices=4)[1].batch_stats["centers"]
        np.testing.assert_allclose(many, one, rtol=1e-4, atol=1e-4)


def test_centers_without_images_begin_again_as_images():
    """One is far from everything, and its last image left the memory long ago."""
    away = {"centers": jnp.asarray(X[:4]).at[3].set(1e3), "counts": jnp.ones(4)}
    for counts, near in ((jnp.ones(4).at[3].set(0.4), True), (jnp.ones(4), False)):
        centers = train(1, begin={**away, "counts": counts})[1].batch_stats["centers"]
        assert (jnp.abs(centers[3]).max() < 20) == near
    few = begin_again(jnp.zeros((4, 6)), jnp.array([True, False, True, True]), jnp.asarray(X[:2]))
    np.testing.assert_array_equal(few, np.stack([X[0], np.zeros(6), X[1], X[0]]))


@pytest.mark.parametrize(
    "wrong", [{"clusters": 0}, {"clusters": 2.5}, {"clusters": 3, "memory": 0}]
)
def test_no_cluster_and_no_memory_are_refused(wrong):
    with pytest.raises(UserError, match="a cluster and a memory above 0"):
        KMeans(**wrong).init(KEY, IMAGES, train=False)


def test_the_nearest_center_is_found_far_from_0():
    far = np.float32(X + 1e4)
    exact = ((np.float64(far)[:, None] - np.float64(far[:5])[None]) ** 2).sum(2)
    np.testing.assert_allclose(squared_distances(far, far[:5]), exact, rtol=1e-3, atol=1e-3)


def test_the_code_is_the_triangle_activation():
    model = KMeans(3)
    variables = model.init(KEY, IMAGES, train=False)
    code = model.apply(variables, IMAGES, train=False)["code"]
    centers = np.asarray(variables["batch_stats"]["centers"])
    distances = np.sqrt(((X[:, None] - centers[None]) ** 2).sum(2))
    expected = np.maximum(distances.mean(1, keepdims=True) - distances, 0)
    np.testing.assert_allclose(code, expected, rtol=1e-3, atol=1e-4)
