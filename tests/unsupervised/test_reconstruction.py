"""The loss of an auto-encoder, term by term, against NumPy and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convnets.errors import UserError
from convnets.metrics import finish
from convnets.models import MLP
from convnets.ops import Normalization
from convnets.unsupervised import DenseAutoencoder, mask_pixels, reconstruction_loss

KEY = jax.random.key(0)
IMAGES = jnp.asarray(np.random.default_rng(0).random((3, 4, 4, 1)), jnp.float32)
MODEL = DenseAutoencoder((5,))
PARAMS = MODEL.init(KEY, IMAGES, train=False)["params"]
FOUND = jax.tree.map(np.asarray, MODEL.apply({"params": PARAMS}, IMAGES, train=False))
X, MADE, CODE = np.asarray(IMAGES), FOUND["reconstruction"], FOUND["code"]


def value(params=PARAMS, batch=None, key=None, **options):
    loss_fn = reconstruction_loss(MODEL, **options)
    loss, (_, measured) = loss_fn(params, {}, batch or {"image": IMAGES}, key)
    return float(loss), finish(measured)


def test_the_squared_error_and_what_is_unexplained():
    loss, measured = value()
    errors = ((MADE - X) ** 2).sum((1, 2, 3))
    np.testing.assert_allclose(loss, errors.mean(), rtol=1e-5)
    spread = ((X - X.mean((1, 2, 3), keepdims=True)) ** 2).sum()
    np.testing.assert_allclose(measured["unexplained"], errors.sum() / spread, rtol=1e-5)


def test_the_cross_entropy():
    p = 1 / (1 + np.exp(-MADE))
    expected = -(X * np.log(p) + (1 - X) * np.log(1 - p)).sum((1, 2, 3)).mean()
    np.testing.assert_allclose(value(error="cross_entropy")[0], expected, rtol=1e-5)


def test_the_sparsity_is_of_absolute_values():
    np.testing.assert_allclose(
        value(sparsity=0.3)[0] - value()[0], 0.3 * np.abs(CODE).sum(1).mean(), rtol=1e-4
    )


def test_the_contraction_is_the_closed_form_of_logistic_units():
    kernel = np.asarray(PARAMS["encoder1"]["kernel"])
    expected = (((CODE * (1 - CODE)) ** 2) @ (kernel**2).sum(0)).mean()
    np.testing.assert_allclose(value(contraction=2.0)[0] - value()[0], 2 * expected, rtol=1e-3)


def test_corruption_is_of_what_is_seen_and_in_training_only():
    everything = dict(corrupt=lambda key, image: mask_pixels(key, image, share=1.0))
    assert value(**everything) == value()
    seen = MODEL.apply({"params": PARAMS}, jnp.zeros_like(IMAGES), train=True)["reconstruction"]
    expected = ((np.asarray(seen) - X) ** 2).sum((1, 2, 3)).mean()
    np.testing.assert_allclose(value(key=KEY, **everything)[0], expected, rtol=1e-5)


def test_normalized_images_are_what_is_rebuilt():
    normalization = Normalization((0.5,), (0.25,))
    x = (IMAGES - 0.5) / 0.25
    found = MODEL.apply({"params": PARAMS}, x, train=False)["reconstruction"]
    expected = jnp.square(found - x).sum((1, 2, 3)).mean()
    np.testing.assert_allclose(value(normalization=normalization)[0], expected, rtol=1e-5)


def test_padding_does_not_count():
    padded = {
        "image": jnp.concatenate([IMAGES, jnp.full_like(IMAGES, jnp.nan)]),
        "mask": jnp.arange(6) < 3,
    }
    for found, expected in zip(value(batch=padded), value()):
        assert found == pytest.approx(expected)


def test_an_unknown_error_is_refused():
    with pytest.raises(UserError, match="squared_error"):
        reconstruction_loss(MODEL, error="squared")


@pytest.mark.parametrize("weights", [{"sparsity": -1}, {"contraction": float("nan")}])
def test_weights_that_are_none_are_refused(weights):
    with pytest.raises(UserError, match=f"{next(iter(weights))} must not be negative"):
        reconstruction_loss(MODEL, **weights)


def test_a_corruption_is_a_function():
    with pytest.raises(UserError, match="corrupt is a function"):
        reconstruction_loss(MODEL, corrupt="mask")


def test_a_model_that_makes_no_reconstruction_is_named():
    model = MLP((4,))
    variables = model.init(jax.random.key(0), IMAGES, train=False)
    with pytest.raises(UserError, match="MLP makes no code"):
        reconstruction_loss(model)(variables["params"], {}, {"image": IMAGES}, None)
