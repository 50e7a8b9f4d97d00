import flax.linen as nn
import jax
import numpy as np
import pytest

from convnets.errors import UserError
from convnets.layers import Conv
from convnets.visualize import Unit, best_stimulus

from .networks import classifier, random_images, random_variables


class Filters(nn.Module):
    """One convolution: the best input of a unit is its filter."""

    @nn.compact
    def __call__(self, images, *, train: bool):
        return {"conv1": Conv(3, 5, padding=0, name="conv1")(images)}


@pytest.mark.parametrize("parametrization", ["pixels", "fourier"])
def test_of_a_linear_unit_it_is_the_filter(parametrization):
    model, shape = Filters(), (5, 5, 2)
    variables = random_variables(model, np.zeros((1, *shape), np.float32))
    found = best_stimulus(
        model, variables, shape, Unit(1, "conv1", (0, 0)), contrast=0.1, restarts=3, steps=200,
        parametrization=parametrization,
    )  # fmt: skip
    kernel = np.asarray(variables["params"]["conv1"]["kernel"])[..., 1]
    expected = 0.5 + 0.1 * kernel / np.sqrt(np.square(kernel).mean())
    bias = float(variables["params"]["conv1"]["bias"][1])
    best = (expected * kernel).sum() + bias
    np.testing.assert_allclose(found.activations, best, rtol=1e-3)
    np.testing.assert_allclose(found.images, np.broadcast_to(expected, (3, *shape)), atol=0.02)
    np.testing.assert_allclose(np.square(found.images - 0.5).mean((1, 2, 3)), 0.01, rtol=1e-4)


@pytest.mark.parametrize("parametrization", ["pixels", "fourier"])
def test_jittered_restarts_climb_and_are_sorted(parametrization):
    model, shape = classifier(), (12, 13, 2)
    variables = random_variables(model, random_images(1, 12))
    options = dict(parametrization=parametrization, restarts=3, jitter=2)
    before = best_stimulus(model, variables, shape, Unit(2), steps=0, **options)
    after = best_stimulus(model, variables, shape, Unit(2), steps=40, **options)
    assert after.images.shape == (3, *shape)
    assert np.all(after.activations > before.activations.max())
    for found in (before, after):
        np.testing.assert_allclose(np.square(found.images - 0.5).mean((1, 2, 3)), 0.04, rtol=1e-4)
        logits = jax.jit(lambda x: model.apply(variables, x, train=False))(found.images)
        np.testing.assert_allclose(found.activations, logits[:, 2], rtol=1e-4, atol=1e-5)
        assert np.all(np.diff(found.activations) <= 0)
    again = best_stimulus(model, variables, shape, Unit(2), steps=40, **options)
    np.testing.assert_array_equal(again.images, after.images)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(parametrization="wavelets"), "unknown parametrization 'wavelets'"),
        (dict(contrast=0), "above 0"),
        (dict(steps=-1), "not below"),
        (dict(unit=Unit()), "one channel, an int"),
        (dict(unit=Unit([1, 2])), "one channel, an int"),
        (dict(unit=Unit(9)), "channels 0 to 2"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused(options, message):
    model = classifier()
    variables = random_variables(model, random_images(1, 12))
    with pytest.raises(UserError, match=message):
        best_stimulus(model, variables, (12, 12, 2), **{"unit": Unit(1), **options})
