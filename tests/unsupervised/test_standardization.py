"""Units at one scale: those of one layer, and nothing else."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convnets.errors import UserError
from convnets.layers import Conv, ConvTranspose, Dense, relu
from convnets.unsupervised import standardize_units

IMAGES = jax.random.uniform(jax.random.key(0), (20, 6, 6, 2))


class Net(nn.Module):
    """A convolution, one without biases, and a dense layer."""

    @nn.compact
    def __call__(self, images, *, train):
        x = relu(Conv(5, 3, padding=0, name="conv1")(images))
        x = Conv(4, 3, padding=0, use_bias=False, name="conv2")(x)
        return Dense(3, name="dense")(x.reshape(len(x), -1))


def convolve(params, images):
    found = jax.lax.conv_general_dilated(
        images, params["kernel"], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return np.asarray(found) + np.asarray(params.get("bias", 0))


def test_the_units_of_a_layer_have_mean_0_and_deviation_1():
    model = Net()
    variables = model.init(jax.random.key(1), IMAGES, train=False)
    dead = variables["params"]["conv1"]["kernel"].at[..., 2].set(0)
    variables["params"]["conv1"]["kernel"] = dead
    once = standardize_units(model, variables, "conv1", IMAGES)["params"]
    below = convolve(once["conv1"], IMAGES)
    np.testing.assert_allclose(below.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(below.std((0, 1, 2)), [1, 1, 0, 1, 1], atol=1e-5)
    plain = convolve(variables["params"]["conv1"], IMAGES)
    assert np.corrcoef(plain[..., 0].ravel(), below[..., 0].ravel())[0, 1] > 0.9999
    for name in ("conv2", "dense"):
        for kind, value in variables["params"][name].items():
            assert np.array_equal(once[name][kind], value)
    twice = standardize_units(model, {"params": once}, "conv2", IMAGES)["params"]
    assert list(twice["conv2"]) == ["kernel"]
    above = convolve(twice["conv2"], jnp.maximum(below, 0))
    np.testing.assert_allclose(above.std((0, 1, 2)), 1, atol=1e-5)


def test_what_does_not_vary_stays_and_what_says_nothing_is_refused():
    variables = Net().init(jax.random.key(1), IMAGES, train=False)
    alike = jnp.broadcast_to(IMAGES[:1, :1, :1], (50, 6, 6, 2))
    found = standardize_units(Net(), variables, "conv1", alike)
    jax.tree.map(np.testing.assert_array_equal, found, variables)
    for images, message in ((IMAGES[:0], "over no images"), (IMAGES / 0, "is not finite")):
        with pytest.raises(UserError, match=message):
            standardize_units(Net(), variables, "conv1", images)


def test_layers_that_are_not_there_are_refused():
    variables = Net().init(jax.random.key(1), IMAGES, train=False)
    with pytest.raises(UserError, match="unknown layer 'conv3'"):
        standardize_units(Net(), variables, "conv3", IMAGES)


class Up(nn.Module):
    """A transposed convolution."""

    @nn.compact
    def __call__(self, images, *, train):
        return ConvTranspose(2, 2, 2, name="up")(images)


def test_a_transposed_convolution_is_refused():
    variables = Up().init(jax.random.key(1), IMAGES, train=False)
    with pytest.raises(UserError, match="up is transposed"):
        standardize_units(Up(), variables, "up", IMAGES)
