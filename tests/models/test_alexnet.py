from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from convnets.errors import UserError
from convnets.models import create_model, feature_info, pool_to_row
from convnets.summary import summarize

from .test_resnet import rule

# Where torchvision keeps each layer: `features` and `classifier` count every module.
TORCHVISION = {
    "backbone/conv1": "features.0",
    "backbone/conv2": "features.3",
    "backbone/conv3": "features.6",
    "backbone/conv4": "features.8",
    "backbone/conv5": "features.10",
    "hidden/dense1": "classifier.1",
    "hidden/dense2": "classifier.4",
    "head": "classifier.6",
}


def test_layers_have_the_published_sizes():
    layers = {
        layer.path: layer for layer in summarize(create_model("alexnet"), (224, 224, 3)).layers
    }
    parameters = {path: layer.parameters for path, layer in layers.items() if layer.parameters}
    assert parameters == {
        "backbone/conv1": 23_296,
        "backbone/conv2": 307_392,
        "backbone/conv3": 663_936,
        "backbone/conv4": 884_992,
        "backbone/conv5": 590_080,
        "hidden/dense1": 37_752_832,
        "hidden/dense2": 16_781_312,
        "head": 4_097_000,
    }
    assert layers["backbone/conv1"].output_shape == (55, 55, 64)
    assert layers["backbone/conv5"].output_shape == (13, 13, 256)
    assert feature_info("alexnet")[-1] == ("pool5", 32, 256)


def test_logits_equal_torchvision(shared):
    reference = dict(np.load(shared / "parity" / "torchvision" / "alexnet.npz"))
    seed = int(reference["seed"])
    images = np.random.default_rng(seed).standard_normal(reference["input_shape"])
    images = images.astype(np.float32).transpose(0, 2, 3, 1)

    model = create_model("alexnet")
    shapes = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images)
    variables = {}
    for path, leaf in flatten_dict(shapes["params"]).items():
        name = TORCHVISION["/".join(path[:-1])]
        if path[-1] == "bias":
            value = rule(f"{name}.bias", leaf.shape, seed)
        elif len(leaf.shape) == 4:
            height, width, channels, features = leaf.shape
            value = rule(f"{name}.weight", (features, channels, height, width), seed)
            value = value.transpose(2, 3, 1, 0)
        else:
            value = rule(f"{name}.weight", leaf.shape[::-1], seed)
            if name == "classifier.1":  # as `pool_to_row` says
                value = value.reshape(-1, 256, 6, 6).transpose(0, 2, 3, 1).reshape(value.shape)
            value = value.T
        variables["params", *path] = value
    run = jax.jit(lambda variables, images: model.apply(variables, images, train=False))
    logits = run(unflatten_dict(variables), images)
    expected = reference["logits"]
    difference = np.abs(expected[0] - expected[1]).max()
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4 * difference)


def test_every_image_size_makes_a_row_of_9216():
    for size in ((1, 1), (6, 6), (13, 7)):
        assert pool_to_row(jnp.ones((2, *size, 256))).shape == (2, 9216)
    x = np.random.default_rng(0).standard_normal((2, 6, 6, 256)).astype(np.float32)
    np.testing.assert_array_equal(pool_to_row(jnp.asarray(x)), x.reshape(2, -1))


def test_dropout_stands_before_both_hidden_layers():
    """Half of each hidden layer's input is zero, and the rest twice as large, in training only."""
    model = create_model("alexnet", num_classes=2)
    hidden = model.hidden(features=(3,), name="hidden", parent=None)
    x = jnp.ones((4, 1000))
    params = {"dense1": {"kernel": jnp.ones((1000, 3)), "bias": jnp.zeros(3)}}
    still = hidden.apply({"params": params}, x, train=False)
    np.testing.assert_array_equal(still, jnp.full((4, 3), 1000.0))
    dropped = hidden.apply({"params": params}, x, train=True, rngs={"dropout": jax.random.key(0)})
    assert len(np.unique(dropped)) > 1
    assert np.all(np.asarray(dropped) % 2 == 0)  # twice a count
    np.testing.assert_allclose(dropped, 1000, atol=150)
    calls = summarize(create_model("alexnet"), (224, 224, 3)).layers
    paths = [layer.path for layer in calls if layer.path.startswith("hidden/")]
    assert paths == ["hidden/dropout1", "hidden/dense1", "hidden/dropout2", "hidden/dense2"]


def test_images_below_63_pixels_are_refused():
    init = partial(create_model("alexnet").init, train=False)
    jax.eval_shape(init, jax.random.key(0), jnp.ones((1, 63, 63, 3)))
    with pytest.raises(UserError, match="larger images"):
        jax.eval_shape(init, jax.random.key(0), jnp.ones((1, 62, 63, 3)))
