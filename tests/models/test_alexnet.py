from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from convnets.errors import UserError
from convnets.models import (
    Classifier,
    TwoTowerAlexNet,
    create_backbone,
    create_model,
    feature_info,
    pool_to_row,
)
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
        assert pool_to_row(jnp.ones((2, *size, 256)), side=6).shape == (2, 9216)
    x = np.random.default_rng(0).standard_normal((2, 6, 6, 256)).astype(np.float32)
    np.testing.assert_array_equal(pool_to_row(jnp.asarray(x), side=6), x.reshape(2, -1))


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


def layers_of(name):
    layers = summarize(create_model(name), (224, 224, 3)).layers
    return {layer.path: layer for layer in layers}


def test_two_towers_have_the_sizes_of_the_paper():
    layers = layers_of("alexnet_two_tower")
    parameters = {path: layer.parameters for path, layer in layers.items() if layer.parameters}
    assert parameters == {  # kernel by channels seen by maps, and the biases
        "backbone/conv1": 11 * 11 * 3 * 96 + 96,
        "backbone/conv2": 5 * 5 * 48 * 256 + 256,
        "backbone/conv3": 3 * 3 * 256 * 384 + 384,
        "backbone/conv4": 3 * 3 * 192 * 384 + 384,
        "backbone/conv5": 3 * 3 * 192 * 256 + 256,
        "hidden/dense1": 6 * 6 * 256 * 4096 + 4096,
        "hidden/dense2": 4096 * 4096 + 4096,
        "head": 4096 * 1000 + 1000,
    }
    shapes = [layers[path].output_shape for path in parameters]
    assert shapes == [
        (55, 55, 2 * 48),
        (27, 27, 2 * 128),
        (13, 13, 2 * 192),
        (13, 13, 2 * 192),
        (13, 13, 2 * 128),
        (4096,),
        (4096,),
        (1000,),
    ]
    assert sum(parameters.values()) == 60_965_224
    paper = [253_440, 186_624, 64_896, 64_896, 43_264, 4096, 4096, 1000]  # its units, by layer
    units = [np.prod(shape) for shape in shapes]
    assert units[1:] == paper[1:]
    assert (sum(units), sum(paper)) == (659_272, 622_312)
    assert round(sum(units), -4) == 660_000  # the paper and the lecture: 650,000
    dropouts = [path for path in layers if path.startswith("hidden/")]
    assert dropouts == [
        "hidden/dense1",
        "hidden/dropout_behind1",
        "hidden/dense2",
        "hidden/dropout_behind2",
    ]


def test_two_towers_name_their_endpoints_in_order():
    names = [feature.name for feature in feature_info("alexnet_two_tower")]
    assert names == [
        *("conv1", "norm1", "pool1", "conv2", "norm2", "pool2"),
        *("conv3", "conv4", "conv5", "pool5"),
    ]


def test_two_towers_start_as_the_paper_says():
    model = Classifier(TwoTowerAlexNet(), 10)
    images = jnp.ones((1, 63, 63, 3))
    init = jax.jit(partial(model.init, train=False))
    params = init(jax.random.key(0), images)["params"]["backbone"]
    for name, layer in params.items():
        assert abs(layer["kernel"].std() - 0.01) < 1e-4
        assert (layer["bias"] == (name in ("conv2", "conv4", "conv5"))).all()
    hidden = create_model("alexnet_two_tower").hidden(features=(300,), parent=None)
    init = jax.jit(partial(hidden.init, train=False))
    params = init(jax.random.key(0), jnp.ones((1, 200)))["params"]
    assert abs(params["dense1"]["kernel"].std() - 0.01) < 1e-4
    assert (params["dense1"]["bias"] == 1).all()


def test_two_towers_meet_in_the_third_convolution_only():
    """What a tower computes depends on the other from `conv3` on, and in `norm1` at the border."""
    backbone = TwoTowerAlexNet()
    images = jax.random.normal(jax.random.key(0), (1, 63, 63, 3))
    variables = jax.jit(partial(backbone.init, train=False))(jax.random.key(1), images)
    variables = jax.tree.map(lambda leaf: 10 * leaf, variables)  # that maxima differ visibly
    other = jax.tree.map(jnp.copy, variables)
    # Map 90 of `conv1` is in the second tower, and no neighbor of a map of the first.
    other["params"]["conv1"]["kernel"] = other["params"]["conv1"]["kernel"].at[..., 90].multiply(3)
    run = jax.jit(partial(backbone.apply, train=False))
    before, after = run(variables, images), run(other, images)

    def changed(name):
        difference = np.abs(before[name] - after[name]).max((0, 1, 2))
        return [half.max() > 1e-6 for half in np.split(difference, 2)]

    assert changed("conv1") == changed("norm1") == changed("conv2") == [False, True]
    assert changed("conv3") == [True, True]


def test_two_towers_normalize_before_pooling():
    backbone = TwoTowerAlexNet()
    images = 50 * jax.random.normal(jax.random.key(0), (1, 63, 63, 3))
    run = jax.jit(partial(backbone.init_with_output, train=False))
    endpoints, _ = run(jax.random.key(1), images)
    x = np.asarray(endpoints["conv1"], np.float64)
    assert x.min() == 0
    padded = np.pad(x**2, [(0, 0)] * 3 + [(2, 2)])
    total = sum(padded[..., i : i + 96] for i in range(5))
    assert (1e-4 * total).max() > 0.01  # else it would only divide by a constant
    normalized = x / (2 + 1e-4 * total) ** 0.75
    np.testing.assert_allclose(endpoints["norm1"], normalized, rtol=1e-5)
    rows = range(0, normalized.shape[1] - 2, 2)
    pooled = [[normalized[:, i : i + 3, j : j + 3].max((1, 2)) for j in rows] for i in rows]
    pooled = np.array(pooled).transpose(2, 0, 1, 3)
    np.testing.assert_allclose(endpoints["pool1"], pooled, rtol=1e-5)


# Sizes A to J: layers with parameters, and how many parameters those have.
FAMILY = {
    "a": (8, 14_879_160),
    "b": (11, 15_066_024),
    "c": (8, 30_263_976),
    "d": (13, 15_169_848),
    "e": (8, 62_378_344),
    "f": (8, 145_920_872),
    "g": (16, 15_356_712),
    "h": (11, 65_623_400),
    "i": (13, 67_540_968),
    "j": (16, 70_786_024),
}


def test_family_grows_as_the_lecture_draws_it():
    for letter, (depth, parameters) in FAMILY.items():
        counts = [layer.parameters for layer in layers_of(f"alexnet_{letter}").values()]
        assert len([count for count in counts if count]) == depth
        assert sum(counts) == parameters
    eight = [letter for letter, (depth, _) in FAMILY.items() if depth == 8]
    assert "".join(eight) == "acef"
    assert "".join(sorted(FAMILY, key=lambda letter: FAMILY[letter][1])) == "abdgcehijf"


def test_family_ends_in_the_same_map():
    for letter in FAMILY:
        last = feature_info(f"alexnet_{letter}")[-1]
        assert last.stride == 32
        assert last.name == f"pool{FAMILY[letter][0] - 3}"


@pytest.mark.parametrize("name", ["alexnet_b", "alexnet_two_tower"])
def test_stages_computed_again_give_the_same_gradients(name):
    images = jax.random.normal(jax.random.key(0), (2, 63, 63, 3))
    kept, again = (create_backbone(name, checkpoint=checkpoint) for checkpoint in (False, True))
    variables = jax.jit(partial(kept.init, train=False))(jax.random.key(1), images)

    def loss(backbone, variables):
        endpoints = backbone.apply(variables, images, train=False)
        assert list(endpoints) == [feature.name for feature in feature_info(name)]
        return sum((endpoint**2).sum() for endpoint in endpoints.values())

    grads = [jax.jit(jax.grad(partial(loss, model)))(variables) for model in (kept, again)]
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4), *grads)
    programs = [jax.make_jaxpr(jax.grad(partial(loss, m)))(variables) for m in (kept, again)]
    assert [str(program).count("remat") > 0 for program in programs] == [False, True]
