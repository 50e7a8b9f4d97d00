from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from convnets import losses, ops
from convnets.errors import UserError
from convnets.models import create_model
from convnets.ops.image import Normalization, prepare
from convnets.visualize import Unit, grad_cam

from .networks import NORMALIZATION, TwoConvolutions, classifier, random_images, random_variables

MODEL, IMAGES = classifier(), random_images()
VARIABLES = random_variables(MODEL, IMAGES)
SCALED = Normalization(*NORMALIZATION)


@pytest.mark.parametrize("endpoint", ["conv1", "pool1", "conv2"])
def test_maps_are_weighted_by_mean_gradients(endpoint):
    """The rest of the network by itself, from the endpoint on, in plain derivatives."""
    params = VARIABLES["params"]
    maps = MODEL.apply(VARIABLES, prepare(IMAGES, SCALED), train=False, method="endpoints")

    def above(x):
        if endpoint == "conv1":
            x = ops.max_pool(x, 3, 2)
        if endpoint != "conv2":
            layer = params["backbone"]["conv2"]
            x = ops.convolve(x, layer["kernel"], stride=2) + layer["bias"].reshape(1, 1, 1, -1)
            x = jax.nn.relu(x)
        return (x.mean((1, 2)) @ params["head"]["kernel"])[:, 1].sum()

    weights = jax.grad(above)(maps[endpoint]).mean((1, 2), keepdims=True)
    expected = jnp.maximum((weights * maps[endpoint]).sum(3), 0)
    expected = jax.image.resize(expected, (2, 11, 11), "bilinear")
    found = grad_cam(MODEL, VARIABLES, IMAGES, Unit(1), endpoint=endpoint, normalization=SCALED)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert endpoint != "conv2" or np.array_equal(
        found, grad_cam(MODEL, VARIABLES, IMAGES, Unit(1), normalization=SCALED)
    )


def stripes(rng, places, size=32):
    """Patches of stripes on noise, upright ones and level ones, `{label: (top, left)}`."""
    image = rng.uniform(0.3, 0.7, (size, size, 1))
    wave = np.where(np.arange(10) % 4 < 2, 0.0, 1.0)
    for label, (top, left) in places.items():
        patch = np.broadcast_to(wave[None] if label else wave[:, None], (10, 10))
        image[top : top + 10, left : left + 10, 0] = patch
    return image.astype(np.float32)


def test_of_two_objects_it_finds_the_one_of_the_class():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 128)  # the third class is noise alone
    places = rng.integers(0, 23, (128, 2))
    images = np.stack(
        [stripes(rng, {k: place} if k < 2 else {}) for k, place in zip(labels, places)]
    )
    model = classifier(widths=(16, 16))
    variables = model.init(jax.random.key(0), images[:1], train=False)
    optimizer = optax.adam(1e-2)

    def loss(params):
        logits = model.apply({"params": params}, images, train=True)
        return losses.softmax_cross_entropy(logits, labels).mean()

    @jax.jit
    def step(params, state):
        value, grads = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, value

    params = variables["params"]
    state = optimizer.init(params)
    for _ in range(150):
        params, state, value = step(params, state)
    assert value < 0.05
    left, right = (11, 1), (11, 21)
    both = np.stack([stripes(rng, {0: left, 1: right}), stripes(rng, {0: right, 1: left})])
    for label in (0, 1):
        found = np.asarray(grad_cam(model, {"params": params}, both, Unit(label)))
        left, right = found[:, :, :16].sum((1, 2)), found[:, :, 16:].sum((1, 2))
        share = left / (left + right)
        assert share[label] > 0.8, share
        assert share[1 - label] < 0.2, share


def test_what_is_no_map_before_the_unit_is_refused():
    refused = partial(grad_cam, MODEL, VARIABLES, IMAGES)
    with pytest.raises(UserError, match="unknown endpoint 'conv3'"):
        refused(endpoint="conv3")
    with pytest.raises(UserError, match="is no map before conv2"):
        refused(Unit(0, "conv2"), endpoint="conv2")
    with pytest.raises(UserError, match="no endpoint of images before conv1"):
        refused(Unit(0, "conv1"))
    lenet, digits = create_model("lenet5"), np.zeros((1, 28, 28, 1), np.float32)
    variables = lenet.init(jax.random.key(0), digits, train=False)
    with pytest.raises(UserError, match="logits is not computed from c3"):
        grad_cam(lenet, variables, digits, endpoint="c3")
    backbone = {"params": variables["params"]["backbone"]}
    found = grad_cam(lenet.backbone, backbone, digits)  # of s4: from s2, past c3
    expected = grad_cam(lenet.backbone, backbone, digits, endpoint="s2")
    np.testing.assert_array_equal(found, expected)


def test_endpoints_within_a_jitted_module_are_found():
    variables, unit = {"params": VARIABLES["params"]["backbone"]}, Unit(1, "conv2")
    jitted, plain = (
        grad_cam(network(), variables, IMAGES, unit, endpoint="conv1")
        for network in (nn.jit(TwoConvolutions), TwoConvolutions)
    )
    np.testing.assert_allclose(jitted, plain, atol=1e-6)
    assert np.abs(plain).max() > 0
