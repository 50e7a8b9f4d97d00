"""The map of logits against crops, against windows of the backbone's map, and at the borders."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import convnets
from convnets.errors import UserError
from convnets.layers import Conv, Dense, relu
from convnets.models import (
    AlexNet,
    ClassicLeNet,
    Classifier,
    DenseLayers,
    Pixels,
    create_model,
    fold_batch_norm,
    pool_to_row,
    to_fully_convolutional,
)
from convnets.models.lenet import LENET5_CONNECTIONS
from convnets.ops import max_pool
from convnets.summary import summarize

from .variables import draw_variables


def draw(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def apply(model, variables, images):
    return jax.jit(partial(model.apply, train=False))(variables, images)


def difference(a, b):
    """The largest difference, in units of the largest value."""
    assert a.shape == b.shape
    return np.abs(a - b).max() / np.abs(b).max()


def slide(model, variables, images, size, stride):
    """The classifier's answers to every crop, `[B, H', W', num_classes]`."""
    rows, columns = ((n - k) // stride + 1 for n, k in zip(images.shape[1:3], size))
    crops = [
        images[:, i * stride : i * stride + size[0], j * stride : j * stride + size[1]]
        for i, j in np.ndindex(rows, columns)
    ]
    logits = apply(model, variables, np.concatenate(crops))
    return logits.reshape(rows, columns, len(images), -1).transpose(2, 0, 1, 3)


class Unpadded(nn.Module):
    """A backbone in which no convolution is padded."""

    backbone: nn.Module

    @nn.compact
    def __call__(self, images, *, train):
        def replace(next_function, args, kwargs, context):
            layer = context.module
            if not isinstance(layer, Conv) or layer.padding == 0:
                return next_function(*args, **kwargs)
            return layer.clone(parent=layer.scope, padding=0)(*args)

        with nn.intercept_methods(replace):
            return self.backbone(images, train=train)


def lenet5_1998():
    model = create_model("lenet5_1998")
    return model.clone(backbone=ClassicLeNet(6, LENET5_CONNECTIONS))


def unpadded(name, **options):
    model = create_model(name, **options)
    return model.clone(backbone=Unpadded(model.backbone))


def small_alexnet(**options):
    """An AlexNet in miniature without padding, whose map is 2x3 for images of 163x195 pixels."""
    backbone = Unpadded(AlexNet(stages=((8,), (12,), (16,))))
    options = {"pool": "flatten", **options}
    return Classifier(backbone, 5, hidden=partial(DenseLayers, (20, 10)), **options)


WITHOUT_PADDING = {  # a model, the images it is trained on, larger ones, and its stride
    "lenet1": (lambda: create_model("lenet1"), (28, 28, 1), (41, 52, 1), 4),
    "lenet5": (lambda: unpadded("lenet5"), (32, 32, 1), (45, 36, 1), 4),
    "lenet5_1998": (lenet5_1998, (32, 32, 1), (33, 47, 1), 4),
    "flatten": (small_alexnet, (163, 195, 3), (231, 229, 3), 32),
    "average": (partial(small_alexnet, pool="average"), (163, 195, 3), (197, 263, 3), 32),
    "max": (partial(small_alexnet, pool="max"), (163, 195, 3), (197, 263, 3), 32),
    "both": (partial(small_alexnet, pool="both"), (163, 195, 3), (197, 263, 3), 32),
    "l2": (partial(small_alexnet, pool="l2"), (163, 195, 3), (197, 263, 3), 32),
    "bins": (
        partial(small_alexnet, pool=partial(pool_to_row, side=2)),
        (163, 195, 3),
        (197, 263, 3),
        32,
    ),
}


@pytest.mark.parametrize("name", WITHOUT_PADDING)
def test_without_padding_the_map_is_the_sliding_window(name):
    make, image_shape, larger, stride = WITHOUT_PADDING[name]
    model, images = make(), draw(2, *larger)
    variables = draw_variables(model, image_shape)
    whole, whole_variables = to_fully_convolutional(model, variables, image_shape)
    logits = apply(whole, whole_variables, images)
    expected = slide(model, variables, images, image_shape[:2], stride)
    assert expected.shape[1] * expected.shape[2] > 1
    assert difference(logits, expected) < 1e-5
    spread = np.abs(expected - expected[:, :1, :1]).max()  # that places are told apart
    assert spread > 0.01 * np.abs(expected).max()


PADDED = {
    "lenet5": ((28, 28, 1), (43, 38, 1)),
    "lenet5_1998": ((28, 28, 1), (36, 41, 1)),
    "alexnet_a": ((224, 224, 3), (257, 291, 3)),
    "alexnet_two_tower": ((96, 128, 3), (131, 160, 3)),  # bins that overlap
    "resnet18": ((64, 96, 3), (127, 129, 3)),
    "cifar_resnet8": ((32, 32, 3), (37, 45, 3)),
}


@pytest.mark.parametrize("name", PADDED)
def test_with_padding_every_place_is_the_head_of_its_window(name):
    image_shape, larger = PADDED[name]
    model, images = create_model(name, num_classes=5), draw(2, *larger)
    variables = draw_variables(model, image_shape)
    whole, whole_variables = to_fully_convolutional(model, variables, image_shape)
    logits = apply(whole, whole_variables, images)

    def last_map(images):
        scopes = {scope: tree["backbone"] for scope, tree in variables.items()}
        run = jax.jit(lambda v, x: [*model.backbone.apply(v, x, train=False).values()][-1])
        return run(scopes, images)

    size, features = last_map(images[:, : image_shape[0], : image_shape[1]]), last_map(images)
    head = Classifier(Pixels(), 5, hidden=model.hidden, pool=model.pool)
    params = {key: tree for key, tree in variables["params"].items() if key != "backbone"}
    expected = slide(head, {"params": params}, features, size.shape[1:3], 1)
    assert expected.shape[1] * expected.shape[2] > 1
    assert difference(logits, expected) < 1e-5


@pytest.mark.parametrize("name", ["lenet1", *PADDED])
def test_at_the_trained_size_it_is_the_classifier(name):
    image_shape = PADDED.get(name, ((28, 28, 1),))[0]
    model, images = create_model(name, num_classes=5), draw(2, *image_shape)
    variables = draw_variables(model, image_shape)
    whole, whole_variables = to_fully_convolutional(model, variables, image_shape)
    logits = apply(whole, whole_variables, images)
    assert difference(logits, apply(model, variables, images)[:, None, None]) < 1e-5


def test_with_padding_crops_differ_at_their_borders():
    """What the docstring says: equal up to padding, and only up to that."""
    model, images = create_model("lenet5"), draw(1, 36, 36, 1)
    variables = draw_variables(model, (28, 28, 1))
    whole, whole_variables = to_fully_convolutional(model, variables)
    crops = slide(model, variables, images, (28, 28), 4)
    assert 0.01 < difference(apply(whole, whole_variables, images), crops) < 1
    images[:, [0, 1, 2, 3, -4, -3, -2, -1]] = images[:, :, [0, 1, 2, 3, -4, -3, -2, -1]] = 0
    inner = apply(whole, whole_variables, images)[0, 1, 1]  # its surroundings are zeros now
    assert difference(inner, apply(model, variables, images[:, 4:-4, 4:-4])[0]) < 1e-5


def test_kernels_are_the_dense_ones_reshaped():
    model = create_model("lenet5")
    variables = draw_variables(model, (28, 28, 1))
    whole, after = to_fully_convolutional(model, variables)
    params = after["params"]
    assert params["backbone"] is variables["params"]["backbone"]
    assert params["hidden"]["dense1"]["kernel"].shape == (5, 5, 16, 120)
    assert params["hidden"]["dense2"]["kernel"].shape == (1, 1, 120, 84)
    assert params["head"]["kernel"].shape == (1, 1, 84, 10)
    for layer in ("dense1", "dense2"):
        given = variables["params"]["hidden"][layer]
        np.testing.assert_array_equal(
            params["hidden"][layer]["kernel"].ravel(), given["kernel"].ravel()
        )
        assert params["hidden"][layer]["bias"] is given["bias"]
    shapes = jax.eval_shape(
        partial(whole.init, train=False), jax.random.key(0), jnp.ones((1, 40, 40, 1))
    )
    assert jax.tree.map(jnp.shape, shapes) == jax.tree.map(jnp.shape, after)


def test_parameters_alone_come_back_alone():
    model, images = create_model("lenet1"), draw(1, 32, 36, 1)
    variables = draw_variables(model, (28, 28, 1))
    whole, expected = to_fully_convolutional(model, variables)
    same, params = to_fully_convolutional(model, variables["params"])
    assert same == whole
    logits = apply(whole, expected, images)
    np.testing.assert_array_equal(apply(same, {"params": params}, images), logits)
    assert convnets.to_fully_convolutional is to_fully_convolutional


def test_endpoints_training_and_folding_go_on():
    model, images = create_model("cifar_resnet8"), draw(2, 40, 36, 3)
    variables = draw_variables(model, (32, 32, 3))
    whole, variables = to_fully_convolutional(model, variables)
    endpoints = whole.apply(variables, images, train=False, method="endpoints")
    assert list(endpoints) == ["stem", "stage1", "stage2", "stage3", "pre_logits", "logits"]
    assert endpoints["pre_logits"].shape == (2, 3, 2, 64)
    logits, updates = whole.apply(variables, images, train=True, mutable=["batch_stats"])
    assert logits.shape == (2, 3, 2, 10)
    moved = updates["batch_stats"]["backbone"]["bn1"]["mean"]
    assert np.abs(moved - variables["batch_stats"]["backbone"]["bn1"]["mean"]).max() > 1e-3
    folded, fewer = fold_batch_norm(whole, variables, (40, 36, 3))
    assert list(fewer) == ["params"]
    assert difference(apply(folded, fewer, images), endpoints["logits"]) < 1e-5
    assert summarize(whole, (32, 32, 3)).parameters == summarize(model, (32, 32, 3)).parameters


def test_images_in_which_the_window_does_not_fit_are_refused():
    for name, shape in (("lenet5", (24, 28, 1)), ("cifar_resnet8", (28, 28, 3))):
        model = create_model(name)
        image_shape = (28, 28, 1) if name == "lenet5" else (32, 32, 3)
        variables = draw_variables(model, image_shape)
        whole, variables = to_fully_convolutional(model, variables)
        assert apply(whole, variables, draw(1, *image_shape)).shape == (1, 1, 1, 10)
        with pytest.raises(UserError, match="larger images"):
            apply(whole, variables, draw(1, *shape))


class Row(nn.Module):
    """A head that is no dense layer but makes a row of places itself."""

    @nn.compact
    def __call__(self, images, *, train):
        return {"row": Dense(3)(relu(max_pool(images, 2)).reshape(len(images), -1))}


def test_what_is_no_such_classifier_is_refused():
    model = create_model("lenet5", activation=jnp.tanh)
    variables = draw_variables(model, (28, 28, 1))
    with pytest.raises(UserError, match=r"image_shape is needed: the \(H, W, C\)"):
        to_fully_convolutional(model, variables)
    to_fully_convolutional(model, variables, (28, 28, 1))
    with pytest.raises(UserError, match=r"do not fit images of \(36, 28, 1\)"):
        to_fully_convolutional(model, variables, (36, 28, 1))
    with pytest.raises(UserError, match="expected a Classifier, came LeNet5"):
        to_fully_convolutional(model.backbone, variables, (28, 28, 1))
    odd = model.clone(pool=lambda x: x.reshape(len(x), -1))
    with pytest.raises(UserError, match="has no window; known"):
        to_fully_convolutional(odd, variables, (28, 28, 1))
    for backbone in (Row(), create_model("mlp").backbone):
        model = Classifier(backbone, 2)
        with pytest.raises(UserError, match="a row of values, which has no places"):
            to_fully_convolutional(model, draw_variables(model, (4, 4, 1)), (4, 4, 1))
    headless = create_model("lenet1", num_classes=0)
    with pytest.raises(UserError, match="without a dense layer"):
        to_fully_convolutional(headless, draw_variables(headless, (28, 28, 1)))
