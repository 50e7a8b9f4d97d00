from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from convnets.errors import UserError
from convnets.models import create_backbone, default_image_shape
from convnets.visualize.programs import evaluate, leads_to, replace_relus

from .networks import random_images, random_variables


def ordinary(inside, gradient):
    return jnp.where(inside, gradient, 0)


@pytest.mark.parametrize("checkpoint", [False, True])
def test_with_the_relus_own_derivative_nothing_changes(checkpoint):
    model = create_backbone("cifar_plain8", checkpoint=checkpoint)
    images = random_images(1, 16, 3)
    variables = random_variables(model, images)

    def total(images):
        return list(model.apply(variables, images, train=False).values())[-1].sum()

    replaced = jax.jit(jax.value_and_grad(replace_relus(jax.jit(total), ordinary)))
    value, gradient = replaced(images)
    expected_value, expected = jax.jit(jax.value_and_grad(total))(images)
    np.testing.assert_allclose(value, expected_value, rtol=1e-6)
    scale = np.abs(expected).max()
    assert scale > 0
    np.testing.assert_allclose(gradient / scale, expected / scale, atol=1e-6)


NAMES = ["alexnet", "alexnet_two_tower", "vgg11", "googlenet", "resnet18", "densenet121"]
NAMES += ["squeezenet1_1", "mobilenet_v2", "deepface", "neocognitron"]


@pytest.mark.parametrize("name", NAMES)
def test_the_relus_of_every_family_are_found(name):
    model = create_backbone(name)
    images = jax.ShapeDtypeStruct((1, *default_image_shape(name)), jnp.float32)
    variables = jax.eval_shape(partial(model.init, train=False), jax.random.key(0), images)
    seen = []

    def backward(inside, gradient):
        seen.append(inside.shape)
        return gradient

    def last(variables, images):
        return list(model.apply(variables, images, train=False).values())[-1].sum()

    jax.eval_shape(jax.grad(replace_relus(last, backward), 1), variables, images)
    program = str(jax.make_jaxpr(last)(variables, images))
    assert len(seen) == program.count("name=relu") / 2 > 0  # the rule of derivation, and inside


def test_relu6_ends_at_six():
    function = replace_relus(jax.nn.relu6, lambda inside, gradient: 10 * inside + gradient)
    x = jnp.array([-1.0, 1.0, 7.0])
    assert function(x).tolist() == [0, 1, 6]
    assert jax.vjp(function, x)[1](jnp.ones(3))[0].tolist() == [1, 11, 1]


def test_a_relu_that_is_not_reached_is_not_passed_over():
    def looped(x):
        return lax.fori_loop(0, 2, lambda _, y: jax.nn.relu(y), x)

    with pytest.raises(UserError, match="inside a (scan|while)"):
        replace_relus(looped, ordinary)(1.0)
    with pytest.raises(UserError, match="no ReLU"):
        replace_relus(jnp.tanh, ordinary)(1.0)


def test_what_is_added_to_a_value_reaches_what_follows():
    def function(x):
        y = x * x
        return y, 3 * y

    program = jax.make_jaxpr(function)(2.0)
    y, z = program.jaxpr.outvars
    assert leads_to(program.jaxpr, y, z)
    assert not leads_to(program.jaxpr, z, y)
    found = evaluate(program.jaxpr, program.consts, [2.0], additions={y: 1.0})
    assert [float(x) for x in found] == [5, 15]
