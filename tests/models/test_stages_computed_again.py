"""Gradient checkpointing by stage: the same endpoints, in the same order, of the same variables."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convnets.models import create_model, default_image_shape

from .variables import draw_variables

# One name of each family that has stages, and how many of them.
STAGES = {
    "alexnet": 3,
    "alexnet_two_tower": 3,
    "vgg11_bn": 5,
    "googlenet": 4,
    "inception_v3": 4,
    "cifar_resnet8": 3,
    "resnet18d": 4,
    "resnetv2_18": 4,
    "cifar_wrn10_1": 3,
    "densenet121": 4,
    "squeezenet1_1": 4,
    "mobilenet_v3_small": 5,
    "efficientnet_b0": 7,
    "convnext_tiny": 4,
    "deepface": 2,
    "jarrett2_abs_norm_average": 2,
}


def trace(name, checkpoint):
    """Names and shapes of the endpoints, the variables, and how often a stage is run again."""
    model = create_model(name, num_classes=3, checkpoint=checkpoint)
    names = []

    def initialize(images):
        endpoints, variables = model.init_with_output(
            jax.random.key(0), images, train=False, method="endpoints"
        )
        names[:] = endpoints
        return endpoints, variables

    images = jax.ShapeDtypeStruct((2, *default_image_shape(name)), jnp.float32)
    endpoints, variables = jax.eval_shape(initialize, images)

    def loss(variables, images):
        keys = {"dropout": jax.random.key(0)}
        return model.apply(variables, images, train=True, mutable=["batch_stats"], rngs=keys)[0]

    program = jax.make_jaxpr(loss)(variables, images)
    again = sum(
        equation.primitive.name in ("checkpoint", "remat2", "remat") for equation in program.eqns
    )
    return [(name, endpoints[name].shape) for name in names], variables, again


@pytest.mark.parametrize("name", STAGES)
def test_endpoints_and_variables_are_the_same(name):
    kept, again = trace(name, False), trace(name, True)
    assert kept[:2] == again[:2]
    assert (kept[2], again[2]) == (0, STAGES[name])


@pytest.mark.parametrize("name", ["cifar_resnet8", "cifar_wrn10_1"])
def test_gradients_are_the_same(name):
    images = np.random.default_rng(0).random((4, 32, 32, 3), np.float32)

    def gradient(checkpoint):
        model = create_model(name, num_classes=3, checkpoint=checkpoint)
        variables = draw_variables(model, images.shape[1:])

        @jax.jit
        def run(params):
            logits, updates = model.apply(
                {**variables, "params": params}, images, train=True, mutable=["batch_stats"]
            )
            return (logits**2).sum(), updates

        return jax.grad(run, has_aux=True)(variables["params"])

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
        gradient(False),
        gradient(True),
    )
