"""Layers by depth: every parameter in one layer, in the order of computation."""

from fnmatch import fnmatchcase
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

import convnets
from convnets.layers import Conv, Dense
from convnets.models import decay_by_depth, default_image_shape, list_layers
from convnets.training.flattening import flatten


@pytest.mark.parametrize(
    ("name", "first", "last", "number"),
    [
        ("vgg11_bn", ["backbone/conv1_1", "backbone/bn1_1"], ["head"], 11),
        ("cifar_wrn16_4", ["backbone/conv1"], ["head"], 8),
        ("lenet5", ["backbone/conv1"], ["head"], 5),
        ("googlenet", ["backbone/conv1"], ["head", "auxiliary1", "auxiliary2"], 13),
        ("linear", ["head"], ["head"], 1),
    ],
)
def test_every_parameter_is_in_one_layer(name, first, last, number):
    model, shape = convnets.create_model(name), default_image_shape(name)
    layers = list_layers(model, shape)
    assert (layers[0], layers[-1], len(layers)) == (first, last, number)
    images = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    shapes = jax.eval_shape(partial(model.init, train=False), jax.random.key(0), images)
    empty = jax.tree.map(lambda x: jnp.zeros(0), shapes["params"])
    paths = [f"{path}/*" for layer in layers for path in layer]
    for path in flatten(empty):
        assert sum(fnmatchcase(path.replace(".", "/"), pattern) for pattern in paths) == 1, path


def test_layers_are_in_the_order_of_computation_whatever_their_names():
    class Backward(nn.Module):
        @nn.compact
        def __call__(self, images, *, train: bool):
            x = nn.LayerNorm(name="y")(Conv(2, 3, name="z")(images))
            x = Dense(3, name="b")(x.mean((1, 2)))
            return Dense(2, name="a")(x) * self.param("scale", nn.initializers.ones, ())

    factors = decay_by_depth(Backward(), (4, 4, 1), 0.5)
    assert factors == {"z/*": 0.25, "y/*": 0.25, "b/*": 0.5, "a/*": 1.0}


def test_blocks_are_counted_as_numbers_and_under_checkpointing():
    model = convnets.create_model("densenet121", num_classes=10)
    layers = [layer[0] for layer in list_layers(model, (32, 32, 3))]
    assert layers.index("backbone/stage2_block10") == layers.index("backbone/stage2_block9") + 1
    plain, again = (
        list_layers(convnets.create_model("cifar_resnet8", checkpoint=checkpoint), (32, 32, 3))
        for checkpoint in (False, True)
    )
    assert plain == again


def test_the_decay_is_a_share():
    for decay in (0.0, 1.1, float("nan")):
        with pytest.raises(convnets.UserError, match="decay from layer to layer"):
            decay_by_depth(convnets.create_model("linear"), (8, 8, 1), decay)
