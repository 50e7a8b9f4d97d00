"""Convolutional sparse codes against scikit-learn's of the same problem written as a matrix."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.decomposition import sparse_encode

import convnets
from convnets.errors import UserError
from convnets.unsupervised import ConvolutionalPredictiveCoder, sparse_coding_loss

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
MODEL = ConvolutionalPredictiveCoder(3, 3)
IMAGES = jnp.asarray(RNG.normal(size=(2, 5, 5, 1)), jnp.float32)
PARAMS = MODEL.init(KEY, IMAGES, train=False)["params"]


def dictionary():
    """What each of the 75 values of the maps adds to the 25 pixels."""
    maps = jnp.eye(75).reshape(75, 5, 5, 3)
    return np.asarray(MODEL.reconstruct(PARAMS, maps), np.float64).reshape(75, 25)


def test_filters_have_length_one_and_lie_around_their_place():
    center = dictionary().reshape(5, 5, 3, 5, 5)[2, 2]
    np.testing.assert_allclose(np.square(center).sum((1, 2)), 1, rtol=1e-5)
    kernel = np.asarray(PARAMS["dictionary"])[:, :, 0]
    np.testing.assert_allclose(
        center[:, 1:4, 1:4], (kernel / np.sqrt((kernel**2).sum((0, 1)))).transpose(2, 0, 1), 1e-5
    )
    assert not center[:, 0].any()


def test_maps_are_those_of_scikit_learn():
    maps = MODEL.infer(PARAMS, IMAGES, 0.3, steps=1500)
    x = np.asarray(IMAGES, np.float64).reshape(2, 25)
    expected = sparse_encode(x, dictionary(), algorithm="lasso_cd", alpha=0.3, max_iter=100000)

    def cost(codes):
        return 0.5 * ((x - codes @ dictionary()) ** 2).sum() + 0.3 * np.abs(codes).sum()

    assert cost(np.asarray(maps).reshape(2, 75)) < cost(expected) + 1e-4
    assert 0.3 < float((maps == 0).mean()) < 1


def test_maps_stay_close_to_a_prediction():
    """As scikit-learn finds them where each value of the maps is a pixel more to explain."""
    prediction = RNG.normal(size=(2, 5, 5, 3)).astype(np.float32)
    maps = MODEL.infer(PARAMS, IMAGES, 0.2, steps=500, prediction=prediction, closeness=0.5)
    root = np.sqrt(0.5)
    x = np.concatenate([IMAGES.reshape(2, 25), root * prediction.reshape(2, 75)], 1)
    wider = np.concatenate([dictionary(), root * np.eye(75)], 1)
    expected = sparse_encode(x, wider, algorithm="lasso_cd", alpha=0.2, max_iter=100000)
    np.testing.assert_allclose(np.asarray(maps).reshape(2, 75), expected, atol=1e-3)


def test_training_explains_the_images_and_teaches_the_encoder():
    shapes, images = RNG.normal(size=(3, 3, 3)), np.zeros((64, 8, 8))
    for image in images:
        for _ in range(3):
            i, j = RNG.integers(0, 6, 2)
            image[i : i + 3, j : j + 3] += shapes[RNG.integers(3)]
    batch = {"image": jnp.asarray(images[..., None], jnp.float32)}
    model, optimizer = ConvolutionalPredictiveCoder(6, 3), optax.adam(0.02)
    loss_fn = sparse_coding_loss(model, 0.3, steps=15)
    variables = model.init(KEY, batch["image"], train=False)
    state = convnets.TrainState.create(variables, optimizer, KEY)
    step = jax.jit(convnets.make_step(loss_fn, optimizer))
    evaluate = jax.jit(lambda params: loss_fn(params, {}, batch, None))
    before, _ = evaluate(state.params)
    for _ in range(100):
        state, _ = step(state, batch)
    after, (_, measured) = evaluate(state.params)
    assert after < 0.6 * before
    means = convnets.metrics.finish(measured)
    assert means["unexplained"] < 0.4
    assert means["zeros"] > 0.5
    predicted = model.apply({"params": state.params}, batch["image"], train=False)
    by_encoder = jnp.square(predicted["reconstruction"] - batch["image"]).mean()
    assert by_encoder < 0.7 * jnp.square(batch["image"]).mean()


def test_filters_of_an_even_size_are_refused():
    with pytest.raises(UserError, match="odd size, not 4"):
        ConvolutionalPredictiveCoder(3, 4).init(KEY, IMAGES, train=False)
