"""What was learned as a layer: the layer makes what the learner's code was made of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convnets.errors import UserError
from convnets.layers import Conv, relu, tanh
from convnets.unsupervised import (
    RBM,
    ConvAutoencoder,
    ConvolutionalPredictiveCoder,
    ConvolutionalRBM,
    DenseAutoencoder,
    KMeans,
    LocalAutoencoder,
    PredictiveCoder,
    ReconstructionICA,
    encoder_layer,
    fill_layer,
)

KEY = jax.random.key(0)
IMAGES = jax.random.normal(KEY, (3, 6, 6, 2))


def code_and_layer(learner):
    variables = learner.init(KEY, IMAGES, train=False)
    noise = jax.random.normal(KEY, (100,))  # that biases are not 0

    def add_noise(x):
        return x + noise[: x.shape[-1]].reshape(*[1] * (x.ndim - 1), -1)

    variables = jax.tree.map(add_noise, variables)
    return learner.apply(variables, IMAGES, train=False)["code"], encoder_layer(learner, variables)


def convolve(layer, kernel_shape, stride=1, padding=0):
    conv = Conv(kernel_shape[-1], kernel_shape[0], stride, padding=padding)
    empty = conv.init(KEY, IMAGES)["params"]
    params = fill_layer({"conv": empty}, "conv", layer)["conv"]
    return conv.apply({"params": params}, IMAGES)


@pytest.mark.parametrize(
    ("learner", "activation"),
    [
        (DenseAutoencoder((5,), activation=relu), relu),
        (RBM(5), jax.nn.sigmoid),
        (PredictiveCoder(5), tanh),
    ],
)
def test_a_dense_code_is_that_of_a_convolution_as_large_as_the_image(learner, activation):
    code, layer = code_and_layer(learner)
    inputs = convolve(layer, (6, 6, 2, 5))[:, 0, 0]
    found = activation(inputs) * layer.get("gain", jnp.ones(5))[None]
    assert np.allclose(found, code, atol=1e-5)


def test_a_convolutional_code_is_that_of_the_convolution():
    code, layer = code_and_layer(ConvAutoencoder((4,), kernel_size=3))
    assert np.allclose(relu(convolve(layer, (3, 3, 2, 4), 2, 1)), code, atol=1e-5)


def test_convolutional_codes_and_filters_of_ica_are_those_of_the_convolution():
    code, layer = code_and_layer(ConvolutionalPredictiveCoder(4, 3))
    found = layer["gain"].reshape(1, 1, 1, -1) * tanh(convolve(layer, (3, 3, 2, 4), padding=1))
    assert np.allclose(found, code, atol=1e-5)
    code, layer = code_and_layer(ReconstructionICA(Conv(4, 3, padding=0, use_bias=False)))
    assert np.allclose(convolve(layer, (3, 3, 2, 4)), code, atol=1e-5)


def test_layers_within_a_layer_are_filled_by_their_names():
    params = {"stage1": {"filters": {"kernel": jnp.zeros((2, 3))}, "gain": jnp.ones(3)}, "b": {}}
    found = {"filters": {"kernel": jnp.ones((2, 3))}, "gain": jnp.full(3, 2.0)}
    filled = fill_layer(params, "stage1", found)
    assert jax.tree.map(lambda x: x.tolist(), filled["stage1"]) == {
        "filters": {"kernel": [[1.0] * 3] * 2}, "gain": [2.0] * 3,
    }  # fmt: skip
    with pytest.raises(UserError, match="unknown layer 'conv'"):
        fill_layer(params, "stage1", {"conv": found["filters"]})


def test_a_convolutional_machine_is_its_units_inputs():
    learner = ConvolutionalRBM(4, 3)
    variables = learner.init(KEY, IMAGES, train=False)
    layer = encoder_layer(learner, variables)
    found = convolve(layer, (3, 3, 2, 4))
    assert np.allclose(found, learner._inputs(variables["params"], IMAGES), atol=1e-6)


def test_centers_become_filters_without_a_mean_at_length_one():
    learner = KMeans(4)
    variables = learner.init(KEY, IMAGES, train=False)
    kernel = encoder_layer(learner, variables)["kernel"]
    assert np.allclose(kernel.mean(0), 0, atol=1e-6)
    assert np.allclose(jnp.linalg.norm(kernel, axis=0), 1, atol=1e-6)
    centers = variables["batch_stats"]["centers"]
    assert (jnp.sum(kernel.T * centers, 1) > 0).all()


def test_what_does_not_fit_is_refused():
    with pytest.raises(UserError, match="LocalAutoencoder has no encoder that is a layer"):
        encoder_layer(LocalAutoencoder(), {})
    params = {"a": {"b": {"kernel": jnp.zeros((2, 3)), "bias": jnp.zeros(3)}}, "c": jnp.zeros(2)}
    found = {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}
    filled = fill_layer(params, "a/b", found)
    assert filled["a"]["b"]["kernel"].sum() == 6
    assert params["a"]["b"]["kernel"].sum() == 0
    for path, message in (("d", "unknown layer 'd'"), ("a", "a has no kernel, but b")):
        with pytest.raises(UserError, match=message):
            fill_layer(params, path, found)
    with pytest.raises(UserError, match=r"b/kernel is \(2, 3\); what was learned is \(3, 2\)"):
        fill_layer(params, "a/b", {"kernel": jnp.ones((3, 2))})
