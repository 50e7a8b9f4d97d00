import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convnets import ops
from convnets.errors import UserError
from convnets.models import create_backbone
from convnets.visualize import Unit, compute_endpoints, project_down, saliency

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
    found = project_down(model, variables, IMAGES, Unit(channel, "conv2", (1, 0)))
    expected = project_by_hand(variables["params"], IMAGES, channel, (1, 0), jax.nn.relu)
    np.testing.assert_allclose(found, expected, atol=1e-6)


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
    with pytest.raises(UserError, match="no ReLU"):
        project_down(model, variables, IMAGES, unit)


def test_the_strongest_place_is_projected_from_that_place():
    model = TwoConvolutions()
    variables = random_variables(model, IMAGES)
    maps = compute_endpoints(model, variables, IMAGES)["conv2"][..., 0]
    found = project_down(model, variables, IMAGES, Unit(0, "conv2"))
    for number, image in enumerate(maps):
        place = np.unravel_index(image.argmax(), image.shape)
        unit = Unit(0, "conv2", tuple(int(p) for p in place))
        alone = project_down(model, variables, IMAGES[number : number + 1], unit)
        np.testing.assert_allclose(found[number], alone[0], atol=1e-6)


def test_it_goes_down_from_every_endpoint_of_a_backbone():
    model, images = create_backbone("cifar_resnet8"), random_images(1, 16, 3)
    variables = random_variables(model, images)
    for endpoint in compute_endpoints(model, variables, images):
        found = project_down(model, variables, images, Unit(None, endpoint))
        assert found.shape == images.shape
        assert np.isfinite(found).all()
        assert np.abs(found).max() > 0
