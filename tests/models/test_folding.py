"""Folding changes no answer, whatever follows what in a network."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

import convnets
from convnets.layers import BatchNorm, Conv, Dense
from convnets.models import Folded
from convnets.ops import global_average_pool
from convnets.summary import summarize

from .test_contract import fill

NETS = {  # and how many norms they have
    "cifar_plain20": 19,
    "cifar_resnet20": 19,
    "cifar_resnet20_projection": 21,
    "resnet18": 20,
    "resnet50": 53,
}


def filled(model, image_shape=(32, 32, 3)):
    """Random parameters and statistics, with variances and scales from 0.5 to 1.5."""
    images = jax.ShapeDtypeStruct((2, *image_shape), jnp.float32)
    init = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images)
    return unflatten_dict({p: fill(p, s) for p, s in flatten_dict(init).items()})


def compare(model, image_shape=(32, 32, 3), **options):
    """The folded model, its variables, and the largest difference in units of the largest value."""
    variables = filled(model, image_shape)
    folded, fewer = convnets.fold_batch_norm(model, variables, image_shape)
    images = np.random.default_rng(0).standard_normal((2, *image_shape), np.float32)

    @jax.jit
    def both(variables, fewer):
        return (
            model.apply(variables, images, train=False, **options),
            folded.apply(fewer, images, train=False, **options),
        )

    differences = [
        np.abs(a - b).max() / np.abs(a).max()
        for a, b in zip(*map(jax.tree.leaves, both(variables, fewer)))
    ]
    return folded, fewer, max(differences)


@pytest.mark.parametrize("name", NETS)
def test_every_norm_is_folded_and_the_logits_stay(name):
    folded, fewer, difference = compare(convnets.create_model(name, num_classes=10))
    assert len(folded.pairs) == NETS[name]
    assert fewer.keys() == {"params"}
    assert not [path for path in flatten_dict(fewer, sep="/") if "scale" in path]
    assert difference < 1e-5


def test_backbones_endpoints_and_other_sizes():
    backbone = convnets.create_backbone("cifar_resnet8")
    _, fewer, difference = compare(backbone)
    assert difference < 1e-5
    model = convnets.create_model("cifar_resnet8", num_classes=10)
    folded, fewer, difference = compare(model, method="endpoints")
    assert difference < 1e-5
    images = jnp.ones((1, 48, 40, 3))
    run = partial(folded.apply, train=False, method="endpoints")
    assert jax.eval_shape(run, fewer, images)["stage3"].shape[1] == 12
    init = partial(folded.init, train=False)
    assert jax.eval_shape(init, jax.random.key(0), images).keys() == {"params"}


def test_half_precision_stays_close_to_it():
    exact, rounded = (
        convnets.create_model("cifar_resnet20", num_classes=10, dtype=dtype)
        for dtype in (jnp.float32, jnp.bfloat16)
    )
    variables = filled(exact)
    images = np.random.default_rng(0).standard_normal((2, 32, 32, 3), np.float32)
    folded, fewer = convnets.fold_batch_norm(rounded, variables, (32, 32, 3))
    expected, unfolded, found = (
        jax.jit(lambda tree, net=net: net.apply(tree, images, train=False))(tree)
        for net, tree in ((exact, variables), (rounded, variables), (folded, fewer))
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(fewer)} == {jnp.dtype("float32")}
    assert np.abs(found - expected).max() < 2 * np.abs(unfolded - expected).max()


class Mixed(nn.Module):
    """Norms behind a dense layer, a grouped convolution with a bias, and what cannot be folded."""

    @nn.compact
    def __call__(self, x, *, train: bool):
        x = BatchNorm(name="of_images")(x, train=train)
        x = BatchNorm(epsilon=0.1, name="bn1")(Conv(6, 3, name="conv1")(x), train=train)
        x = nn.relu(BatchNorm(name="of_norm")(x, train=train))
        y = Conv(6, 3, groups=2, use_bias=False, name="used_twice")(x)
        x = nn.relu(y + BatchNorm(name="of_twice")(y, train=train))
        x = nn.relu(Conv(6, 3, name="before_relu")(x))
        x = BatchNorm(name="of_relu")(x, train=train)
        shared = BatchNorm(name="shared")
        x = shared(Conv(6, 1, name="left")(x), train=train) + shared(
            Conv(6, 1, name="right")(x), train=train
        )
        again = Conv(6, 3, groups=3, name="again")
        x = BatchNorm(name="bn2")(again(x), train=train)
        x = nn.relu(x)
        x = nn.remat(lambda module, x: Unit(name="unit")(x, train=train))(self, x)
        x = Dense(5, use_bias=False, name="dense")(global_average_pool(x))
        return BatchNorm(name="bn3")(x, train=train)


class Unit(nn.Module):
    @nn.compact
    def __call__(self, x, *, train: bool):
        return BatchNorm(name="bn")(Conv(4, 3, use_bias=False, name="conv")(x), train=train)


def test_a_norm_stays_where_its_input_is_not_its_own():
    folded, fewer, difference = compare(Mixed(), (8, 8, 3))
    assert set(folded.pairs) == {
        ("conv1", "bn1"),
        ("again", "bn2"),
        ("unit/conv", "unit/bn"),
        ("dense", "bn3"),
    }
    assert fewer["batch_stats"].keys() == {
        "of_images",
        "of_norm",
        "of_twice",
        "of_relu",
        "shared",
    }
    assert difference < 1e-5


class Twice(nn.Module):
    """One convolution before two norms, and one whose output is returned besides."""

    @nn.compact
    def __call__(self, x, *, train: bool):
        conv = Conv(4, 3, name="conv")
        x = BatchNorm(name="bn1")(conv(x), train=train)
        x = BatchNorm(name="bn2")(conv(x), train=train)
        y = Conv(3, 3, name="returned")(x)
        return {"y": y, "x": BatchNorm(name="bn3")(y, train=train)}


class Stack(nn.Module):
    """Layers of one shape in a loop, their parameters in a stack."""

    @nn.compact
    def __call__(self, x, *, train: bool):
        loop = nn.scan(
            lambda module, x, _: (Unit(name="unit")(x, train=train), None),
            variable_axes={"params": 0, "batch_stats": 0},
            split_rngs={"params": True},
            length=3,
        )
        return loop(self, x, None)[0]


@pytest.mark.parametrize("model", [Twice(), Stack()], ids=lambda model: type(model).__name__)
def test_what_cannot_be_folded_comes_back_as_it_is(model):
    variables = filled(model, (8, 8, 4))
    same, fewer = convnets.fold_batch_norm(model, variables, (8, 8, 4))
    assert same is model
    assert fewer is variables


def test_a_model_without_batch_norm_comes_back_as_it_is():
    model = convnets.create_model("lenet5")
    variables = filled(model, (28, 28, 1))
    assert convnets.fold_batch_norm(model, variables, (28, 28, 1)) == (model, variables)


def test_a_folded_model_predicts_is_summed_up_and_does_not_train():
    model = convnets.create_model("cifar_resnet8", num_classes=10)
    variables = filled(model)
    folded, fewer = convnets.fold_batch_norm(model, variables, (32, 32, 3))
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
    rows = [
        convnets.predict(
            net,
            convnets.TrainState.create(tree, optax.identity(), jax.random.key(0)),
            images,
        )
        for net, tree in ((model, variables), (folded, fewer))
    ]
    np.testing.assert_allclose(*rows, atol=1e-5)
    whole, less = summarize(model, (32, 32, 3)), summarize(folded, (32, 32, 3))
    channels = sum(len(kernel) for kernel in jax.tree.leaves(variables["batch_stats"])) // 2
    assert less.parameters == whole.parameters - channels  # a bias for a scale and a bias
    assert less.multiply_adds == whole.multiply_adds
    with pytest.raises(convnets.UserError, match="for inference"):
        folded.apply(fewer, jnp.ones((1, 32, 32, 3)), train=True, mutable=["batch_stats"])
    assert isinstance(folded, Folded)
