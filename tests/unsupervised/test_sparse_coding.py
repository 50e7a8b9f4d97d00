"""Sparse codes against scikit-learn's, and predictive sparse decomposition."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.decomposition import sparse_encode

import convnets
from convnets.errors import UserError
from convnets.unsupervised import PredictiveCoder, infer_codes, sparse_coding_loss

RNG = np.random.default_rng(0)
DICTIONARY = RNG.normal(size=(12, 8))
DICTIONARY /= np.linalg.norm(DICTIONARY, axis=1, keepdims=True)
X = RNG.normal(size=(20, 8))


def objective(codes, penalty):
    return 0.5 * ((X - codes @ DICTIONARY) ** 2).sum() + penalty * np.abs(codes).sum()


@pytest.mark.parametrize("accelerate", [True, False])
def test_codes_are_those_of_scikit_learn(accelerate):
    expected = sparse_encode(X, DICTIONARY, algorithm="lasso_cd", alpha=0.3, max_iter=10000)
    with jax.enable_x64(True):
        codes = infer_codes(
            jnp.asarray(X), jnp.asarray(DICTIONARY), 0.3, steps=5000, accelerate=accelerate
        )
        codes = np.asarray(codes)
    np.testing.assert_allclose(codes, expected, atol=1e-4)
    assert ((codes == 0) == (np.abs(expected) < 1e-6)).mean() > 0.98


def test_fista_is_ahead_of_ista():
    best = objective(sparse_encode(X, DICTIONARY, algorithm="lasso_cd", alpha=0.3), 0.3)
    away = [
        objective(np.asarray(infer_codes(X, DICTIONARY, 0.3, steps=30, accelerate=fast)), 0.3)
        - best
        for fast in (True, False)
    ]
    assert 0 <= away[0] < away[1] / 2


@pytest.mark.parametrize("dtype", ["int8", "bfloat16", "float16"])
def test_codes_of_shorter_types_are_those_of_float32(dtype):
    short = jnp.asarray(4 * X, dtype)
    start = jnp.zeros((20, 12), dtype)
    codes = infer_codes(short, jnp.asarray(DICTIONARY, jnp.float32), 0.3, start=start)
    whole = infer_codes(short.astype(jnp.float32), np.float32(DICTIONARY), 0.3)
    assert codes.dtype == jnp.float32
    np.testing.assert_array_equal(codes, whole)


def test_codes_stay_close_to_a_prediction():
    prediction = RNG.normal(size=(20, 12))
    far, near = (
        np.asarray(
            infer_codes(X, DICTIONARY, 0.1, steps=500, prediction=prediction, closeness=weight)
        )
        for weight in (0.1, 1e3)
    )
    np.testing.assert_allclose(near, prediction, atol=1e-2)
    assert np.abs(far - prediction).mean() > 0.1

    def cost(codes):
        away = 0.5 * 0.1 * ((codes - prediction) ** 2).sum()
        return objective(codes, 0.1) + away

    for _ in range(20):  # no neighbor is better
        assert cost(far) <= cost(far + 1e-2 * RNG.normal(size=far.shape))


def test_training_explains_the_data_and_teaches_the_encoder():
    true = RNG.normal(size=(16, 9)).astype(np.float32)
    true /= np.linalg.norm(true, axis=1, keepdims=True)
    codes = RNG.laplace(size=(256, 16)) * (RNG.random((256, 16)) < 0.2)
    batch = {"image": jnp.asarray((codes @ true).reshape(256, 3, 3, 1), jnp.float32)}
    model, optimizer = PredictiveCoder(16), optax.adam(0.02)
    loss_fn = sparse_coding_loss(model, 0.2, steps=30)
    variables = model.init(jax.random.key(0), batch["image"], train=False)
    state = convnets.TrainState.create(variables, optimizer, jax.random.key(1))
    step = jax.jit(convnets.make_step(loss_fn, optimizer))
    before, _ = loss_fn(state.params, {}, batch, None)
    for _ in range(150):
        state, _ = step(state, batch)
    after, (_, measured) = loss_fn(state.params, {}, batch, None)
    assert after < 0.6 * before
    means = convnets.metrics.finish(measured)
    assert means["unexplained"] < 0.3
    assert means["zeros"] > 0.3
    predicted = model.apply({"params": state.params}, batch["image"], train=False)
    by_encoder = jnp.square(predicted["reconstruction"] - batch["image"]).mean()
    assert by_encoder < 0.5 * jnp.square(batch["image"]).mean()


@pytest.mark.parametrize("closeness", [0.0, 1.0])
def test_the_same_numbers_on_many_devices(closeness):
    images = jnp.asarray(RNG.normal(size=(8, 3, 3, 1)), jnp.float32)
    model, optimizer, ends = PredictiveCoder(6), optax.sgd(0.1), []
    begin = model.init(jax.random.key(0), images, train=False)
    for strategy, devices in (("jit", 1), ("jit", 4), ("shard_map", 4)):
        loss_fn = sparse_coding_loss(model, 0.1, closeness=closeness, steps=5)
        step = convnets.make_step(loss_fn, optimizer)
        step = convnets.parallel.compile(step, strategy, devices=devices)
        state = convnets.TrainState.create(begin, optimizer, jax.random.key(1))
        for _ in range(2):
            state, _ = step(state, {"image": images})
        ends.append(convnets.parallel.gather(state).params["dictionary"])
    for end in ends[1:]:
        np.testing.assert_allclose(end, ends[0], rtol=1e-5, atol=1e-6)


def test_negative_weights_are_refused():
    with pytest.raises(UserError, match="must not be negative"):
        sparse_coding_loss(PredictiveCoder(4), -1.0)
