import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convnets import ops
from convnets.layers import Conv
from convnets.models import create_backbone
from convnets.visualize import Unit, compute_endpoints, deconvnet, saliency

from .networks import TwoConvolutions, identity, random_images, random_variables

IMAGES = random_images()


def project_by_hand(params, x, channel, place, activation):
    """Up with switches, and down by unpooling, the activation again, and transposed filters."""
    kernel1, kernel2 = params["conv1"]["kernel"], params["conv2"]["kernel"]
    bias1, bias2 = (params[name]["bias"].reshape(1, 1, 1, -1) for name in ("conv1", "conv2"))
    maps1 = activation(ops.convolve(x, kernel1, padding=1) + bias1)
    pooled, switches = ops.max_pool_with_switches(maps1, 3, 2)
    maps2 = activation(ops.convolve(pooled, kernel2, stride=2) + bias2)
    alone = jnp.zeros_like(maps2)
    place = (slice(None), *place, channel)
    down = activation(alone.at[place].set(maps2[place]))
    down = ops.convolve_transposed(down, kernel2, stride=2)
    down = ops.unpool(down, switches, maps1.shape[1:3])
    return ops.convolve_transposed(activation(down), kernel1, padding=1)


@pytest.mark.parametrize("channel", range(5))
def test_it_is_unpooling_rectifying_and_transposed_filters(channel):
    model = TwoConvolutions()
    variables = random_variables(model, IMAGES)
    found = deconvnet(model, variables, IMAGES, Unit(channel, "conv2", (1, 0)))
    expected = project_by_hand(variables["params"], IMAGES, channel, (1, 0), jax.nn.relu)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_an_activation_below_zero_goes_down_as_it_is():
    """Of a layer that no ReLU follows: what is rectified below is its pattern, not that of 1."""
    model = TwoConvolutions()
    params = random_variables(model, IMAGES)["params"]
    kernel = params["conv1"]["kernel"]

    class Linear(nn.Module):
        @nn.compact
        def __call__(self, x, *, train):
            maps = nn.relu(Conv(kernel.shape[3], kernel.shape[:2], padding=1, name="conv1")(x))
            return {"maps": maps, "sums": -maps.sum((1, 2))}

    variables = {"params": {"conv1": params["conv1"]}}
    found = deconvnet(Linear(), variables, IMAGES, Unit(1, "sums"))
    bias = params["conv1"]["bias"].reshape(1, 1, 1, -1)
    maps = jax.nn.relu(ops.convolve(IMAGES, kernel, padding=1) + bias)
    sent = -maps[..., 1].sum((1, 2))
    assert (sent < 0).all()
    down = jnp.zeros_like(maps).at[..., 1].set(-sent[:, None, None])  # through the minus
    expected = ops.convolve_transposed(jax.nn.relu(down), kernel, padding=1)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert np.abs(found).max() > 0


def test_some_of_these_units_are_active():
    model = TwoConvolutions()
    maps = compute_endpoints(model, random_variables(model, IMAGES), IMAGES)["conv2"]
    assert (maps[:, 1, 0] > 0).sum() >= 3


def test_in_a_linear_network_it_is_the_gradient_through_the_same_switches():
    """Nothing is rectified there but the maximum's place is kept: one map of the pixels."""
    model, unit = TwoConvolutions(identity), Unit(2, "conv2", (0, 1))
    variables = random_variables(model, IMAGES)
    by_hand = project_by_hand(variables["params"], IMAGES, 2, (0, 1), identity)
    gradient = saliency(model, variables, IMAGES, unit)
    activation = compute_endpoints(model, variables, IMAGES)["conv2"][:, 0, 1, 2]
    np.testing.assert_allclose(by_hand, activation[:, None, None, None] * gradient, atol=1e-6)
    found = deconvnet(model, variables, IMAGES, unit)
    np.testing.assert_allclose(found, activation[:, None, None, None] * gradient, atol=1e-6)


def test_the_strongest_place_is_projected_from_that_place():
    model = TwoConvolutions()
    variables = random_variables(model, IMAGES)
    maps = compute_endpoints(model, variables, IMAGES)["conv2"][..., 0]
    found = deconvnet(model, variables, IMAGES, Unit(0, "conv2"))
    for number, image in enumerate(maps):
        place = np.unravel_index(image.argmax(), image.shape)
        unit = Unit(0, "conv2", tuple(int(p) for p in place))
        alone = deconvnet(model, variables, IMAGES[number : number + 1], unit)
        np.testing.assert_allclose(found[number], alone[0], atol=1e-6)


def test_it_goes_down_from_both_ends_of_a_residual_network():
    model, images = create_backbone("cifar_resnet8"), random_images(1, 16, 3)
    variables = random_variables(model, images)
    for endpoint in ("stem", "stage3"):
        found = deconvnet(model, variables, images, Unit(None, endpoint))
        assert found.shape == images.shape
        assert np.isfinite(found).all()
        assert np.abs(found).max() > 0
