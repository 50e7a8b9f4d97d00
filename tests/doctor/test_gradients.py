"""A wrong gradient is found and named, wherever it stands; right ones pass."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

import convnets
from convnets.doctor import check_gradients
from convnets.doctor.gradients import TOLERANCE
from convnets.layers import BatchNorm, Conv, Dense, Dropout, relu
from convnets.ops import max_pool

from ..small_runs import few_digits


@jax.custom_vjp
def twice(x):
    return 2 * x


twice.defvjp(lambda x: (2 * x, None), lambda _, dy: (dy,))


@jax.custom_vjp
def shift(x):
    return jnp.roll(x, 1, -1)


# Its own Jacobian in place of the transposed one.
shift.defvjp(lambda x: (jnp.roll(x, 1, -1), None), lambda _, dy: (jnp.roll(dy, 1, -1),))


class Twice(nn.Module):
    @nn.compact
    def __call__(self, x):
        return twice(x)


class Network(nn.Module):
    """With a function between conv and dense, or behind dense, as layers or in the open."""

    behind_conv: Callable = relu
    behind_dense: Callable = relu

    @nn.compact
    def __call__(self, images, *, train: bool):
        x = BatchNorm(name="bn")(Conv(2, 3, name="conv")(images), train=train)
        x = max_pool(self.behind_conv(x), 4).reshape(len(images), -1)
        x = Dropout(0.5)(x, train=train)
        return Dense(10, name="head")(self.behind_dense(Dense(3, name="dense")(x)))


def check(**functions):
    dataset, model = few_digits(), Network(**functions)
    images = jnp.zeros((1, *dataset.image_shape))
    variables = model.init(jax.random.key(0), images, train=False)
    return check_gradients(model, dataset, variables)


def test_right_gradients_pass_and_the_flag_stays():
    finding = check()
    assert finding.verdict == "ok"
    assert finding.value < 1e-6
    assert "6 kinds of layers" in finding.found  # with the network itself
    assert "not judged" not in finding.found
    assert not jax.config.jax_enable_x64
    assert jnp.zeros(1).dtype == jnp.float32


@pytest.mark.parametrize(
    ("functions", "named"),
    [
        ({"behind_conv": lambda x: Twice(name="doubling")(x)}, "doubling: "),
        ({"behind_dense": twice}, "the network itself: "),
        ({"behind_dense": shift}, "the network itself: "),
    ],
)
def test_a_wrong_one_is_named(functions, named):
    finding = check(**functions)
    assert finding.verdict == "wrong"
    assert finding.found.startswith(named)
    assert finding.value > 10 * TOLERANCE
    assert "wrong too" not in finding.found


def test_a_network_that_cannot_be_float64_is_not_judged():
    class Narrow(nn.Module):
        @nn.compact
        def __call__(self, images, *, train: bool):
            x = images.astype(jnp.float32).reshape(len(images), -1)
            return nn.Dense(10, dtype=jnp.float32)(jnp.sin(100 * x))

    dataset = few_digits()
    variables = Narrow().init(jax.random.key(0), jnp.zeros((1, *dataset.image_shape)), train=False)
    assert check_gradients(Narrow(), dataset, variables).verdict != "wrong"


class Indexed(nn.Module):
    """Hands integers and booleans to a module of its own."""

    @nn.compact
    def __call__(self, images, *, train: bool):
        x = images.reshape(len(images), -1)
        places = nn.Embed(4, 3, name="embed")(jnp.argmax(x, 1) % 4)
        return Dense(10, name="head")(places)


class Checkpointed(nn.Module):
    @nn.compact
    def __call__(self, images, *, train: bool):
        return nn.remat(Dense)(10, name="head")(images.reshape(len(images), -1))


def test_layers_may_be_given_integers_and_may_be_out_of_reach():
    dataset = few_digits()
    images = jnp.zeros((1, *dataset.image_shape))
    found = {}
    for model in (
        Indexed(),
        Checkpointed(),
        convnets.create_model("cifar_resnet8", checkpoint=True),
    ):
        variables = model.init(jax.random.key(0), images, train=False)
        found[type(model).__name__] = check_gradients(model, dataset, variables)
    assert found["Indexed"].verdict == "ok"
    assert found["Checkpointed"].verdict == "not checked"
    assert "nn.remat" in found["Checkpointed"].found
    assert found["Classifier"].verdict == "ok"


def test_what_there_was_no_time_for_is_said():
    dataset, model = few_digits(), Network()
    variables = model.init(jax.random.key(0), jnp.zeros((1, *dataset.image_shape)), train=False)
    finding = check_gradients(model, dataset, variables, seconds=0)
    assert finding.verdict == "not checked"
    assert "no time for any of 6 kinds" in finding.found


def test_models_of_the_registry_pass():
    dataset, model = few_digits(), convnets.create_model("lenet5", num_classes=10)
    images = jnp.zeros((1, *dataset.image_shape))
    variables = model.init(jax.random.key(0), images, train=False)
    assert check_gradients(model, dataset, variables).verdict == "ok"
