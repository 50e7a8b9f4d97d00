"""Auto-encoders: their shapes and parameters, and the linear one against principal components."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import subspace_angles
from sklearn.decomposition import PCA

from convnets.errors import UserError
from convnets.layers import Dense
from convnets.training import minimize_lbfgs
from convnets.unsupervised import (
    Autoencoder,
    ConvAutoencoder,
    DenseAutoencoder,
    reconstruction_loss,
)

KEY = jax.random.key(0)
IMAGES = jnp.asarray(np.random.default_rng(0).random((2, 8, 8, 1)), jnp.float32)


class Line(nn.Module):
    """A dense layer that hears of `train`."""

    features: int

    @nn.compact
    def __call__(self, x, *, train: bool):
        return Dense(self.features, name="dense")(x.reshape(len(x), -1))


def paths(params):
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): x.shape for path, x in leaves}


def test_any_two_modules_are_an_autoencoder():
    model = Autoencoder(Line(3), Line(64))
    found, variables = model.init_with_output(KEY, IMAGES, train=False)
    assert found["code"].shape == (2, 3)
    assert found["reconstruction"].shape == IMAGES.shape
    assert set(variables["params"]) == {"encoder", "decoder"}
    with pytest.raises(UserError, match=r"makes \(5,\) of the code \(3,\), not images of \(8, 8"):
        Autoencoder(Line(3), Line(5)).init(KEY, IMAGES, train=False)


def test_dense_layers_by_hand():
    model = DenseAutoencoder((6, 4))
    variables = model.init(KEY, IMAGES, train=False)
    kernels = {
        name: shape for name, shape in paths(variables["params"]).items() if "kernel" in name
    }
    assert kernels == {
        "decoder1/kernel": (6, 64),
        "decoder2/kernel": (4, 6),
        "encoder1/kernel": (64, 6),
        "encoder2/kernel": (6, 4),
    }
    found = model.apply(variables, IMAGES, train=False)
    p, x = jax.tree.map(np.asarray, variables["params"]), np.asarray(IMAGES).reshape(2, 64)

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    def layer(x, name):
        return x @ p[name]["kernel"] + p[name]["bias"]

    code = sigmoid(layer(sigmoid(layer(x, "encoder1")), "encoder2"))
    made = layer(sigmoid(layer(code, "decoder2")), "decoder1")
    np.testing.assert_allclose(found["code"], code, rtol=1e-5)
    np.testing.assert_allclose(found["reconstruction"].reshape(2, 64), made, rtol=1e-4, atol=1e-5)


def test_tied_decoders_have_the_encoders_kernels():
    model = DenseAutoencoder((6, 4), tied=True)
    variables = model.init(KEY, IMAGES, train=False)
    assert paths(variables["params"])["decoder1/bias"] == (64,)
    assert "decoder1/kernel" not in paths(variables["params"])
    p = variables["params"]
    free = {
        f"decoder{i}": {"kernel": p[f"encoder{i}"]["kernel"].T, **p[f"decoder{i}"]} for i in (1, 2)
    }
    untied = DenseAutoencoder((6, 4)).apply({"params": {**p, **free}}, IMAGES, train=False)
    tied = model.apply(variables, IMAGES, train=False)
    np.testing.assert_allclose(tied["reconstruction"], untied["reconstruction"], rtol=1e-5)

    def made(p):
        return model.apply({"params": p}, IMAGES, train=False)["reconstruction"].sum()

    assert jnp.abs(jax.grad(made)(p)["encoder1"]["kernel"]).sum() > 0


def test_tied_convolutional_decoders_have_the_encoders_kernels():
    images = jnp.asarray(np.random.default_rng(1).random((2, 8, 8, 3)), jnp.float32)
    model = ConvAutoencoder((4, 6), kernel_size=3, tied=True)
    p = model.init(KEY, images, train=False)["params"]
    assert {name: shape for name, shape in paths(p).items() if "decoder" in name} == {
        "decoder1/bias": (3,),
        "decoder2/bias": (4,),
    }
    p = jax.tree.map(lambda x: x + 0.1, p)
    free = {
        f"decoder{i}": {"kernel": p[f"encoder{i}"]["kernel"], **p[f"decoder{i}"]} for i in (1, 2)
    }
    alike = model.clone(tied=False).apply({"params": {**p, **free}}, images, train=False)
    tied = model.apply({"params": p}, images, train=False)
    np.testing.assert_allclose(tied["reconstruction"], alike["reconstruction"], rtol=1e-5)


def test_convolutional_codes_and_their_images():
    model = ConvAutoencoder((4, 6), kernel_size=3)
    found, variables = model.init_with_output(KEY, IMAGES, train=False)
    assert found["code"].shape == (2, 2, 2, 6)
    assert found["reconstruction"].shape == IMAGES.shape
    assert paths(variables["params"])["decoder1/kernel"] == (3, 3, 1, 4)
    with pytest.raises(UserError, match="sides 4 divides, not 6x8"):
        model.init(KEY, IMAGES[:, :6], train=False)
    with pytest.raises(UserError, match="kernel_size is odd"):
        ConvAutoencoder((4,), kernel_size=4).init(KEY, IMAGES, train=False)


@pytest.mark.parametrize("tied", [False, True])
def test_a_linear_autoencoder_finds_the_principal_subspace(tied):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 9)) @ (rng.normal(size=(9, 9)) * np.linspace(2, 0.2, 9)[:, None])
    x -= x.mean(0)
    model = DenseAutoencoder((3,), activation=lambda x: x, tied=tied)
    batch = {"image": jnp.asarray(x.reshape(500, 3, 3, 1), jnp.float32)}
    params = model.init(KEY, batch["image"], train=False)["params"]
    loss_fn = reconstruction_loss(model)
    best = minimize_lbfgs(lambda p: loss_fn(p, {}, batch, None)[0], params, steps=300)
    name = "encoder1" if tied else "decoder1"
    kernel = np.asarray(best.params[name]["kernel"])
    found = kernel if tied else kernel.T
    principal = PCA(3).fit(x).components_.T
    assert np.rad2deg(subspace_angles(found, principal)).max() < 1
    untrained = np.asarray(params[name]["kernel"])
    untrained = untrained if tied else untrained.T
    assert np.rad2deg(subspace_angles(untrained, principal)).max() > 10
