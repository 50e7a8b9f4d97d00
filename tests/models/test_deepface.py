from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convnets.errors import UserError
from convnets.models import DeepFace, create_model, feature_info
from convnets.summary import summarize


def initialize(key, images):
    return jax.jit(partial(DeepFace().init, train=False))(key, images)


def test_layers_have_the_sizes_of_the_figure():
    layers = summarize(create_model("deepface"), (152, 152, 3)).layers
    layers = {layer.path: layer for layer in layers}
    shapes = {path: layers[path].output_shape for path in layers if layers[path].parameters}
    assert shapes == {
        "backbone/conv1": (142, 142, 32),
        "backbone/conv3": (63, 63, 16),
        "backbone/local4": (55, 55, 16),
        "backbone/local5": (25, 25, 16),
        "backbone/local6": (21, 21, 16),
        "hidden/dense1": (4096,),
        "head": (4030,),
    }
    assert {path: layers[path].parameters for path in shapes} == {
        "backbone/conv1": 32 * 11 * 11 * 3 + 32,
        "backbone/conv3": 16 * 9 * 9 * 32 + 16,
        "backbone/local4": 55 * 55 * (16 * 9 * 9 * 16 + 16),
        "backbone/local5": 25 * 25 * (16 * 7 * 7 * 16 + 16),
        "backbone/local6": 21 * 21 * (16 * 5 * 5 * 16 + 16),
        "hidden/dense1": 21 * 21 * 16 * 4096 + 4096,
        "head": 4096 * 4030 + 4030,
    }
    parameters = [layer.parameters for layer in layers.values()]
    assert sum(parameters) == 118_923_774  # the paper: more than 120 million
    paths = ("local4", "local5", "local6")
    local = sum(layers[f"backbone/{path}"].parameters for path in paths)
    dense = layers["hidden/dense1"].parameters + layers["head"].parameters
    assert (local + dense) / sum(parameters) > 0.95  # as the paper says of them
    assert "hidden/dropout_behind1" in layers


def test_endpoints_are_in_order():
    assert feature_info("deepface") == (
        ("c1", 1, 32),
        ("m2", 2, 32),
        ("c3", 2, 16),
        ("l4", 2, 16),
        ("l5", 4, 16),
        ("l6", 4, 16),
    )
    images = jax.ShapeDtypeStruct((1, 152, 152, 3), jnp.float32)
    endpoints = jax.eval_shape(
        partial(DeepFace().init_with_output, train=False), jax.random.key(0), images
    )[0]
    assert endpoints["m2"].shape == (1, 71, 71, 32)


def test_parameters_start_as_the_paper_says():
    images = jnp.ones((1, 72, 72, 3))
    params = initialize(jax.random.key(0), images)["params"]
    for layer in params.values():
        assert abs(layer["kernel"].std() - 0.01) < 1e-3
        assert (layer["bias"] == 0.5).all()


def test_a_place_has_weights_of_its_own():
    """The same pixels elsewhere give other maps behind `c3`, and the same before."""
    backbone = DeepFace()
    image = jnp.zeros((1, 96, 96, 3)).at[:, 20:40, 20:40].set(1)
    moved = jnp.roll(image, 8, 1)
    variables = initialize(jax.random.key(0), image)
    run = jax.jit(partial(backbone.apply, train=False))
    before, after = run(variables, image), run(variables, moved)
    differences = {
        name: float(abs(jnp.roll(before[name], shift, 1) - after[name])[:, 12:-12].max())
        for name, shift in (("c1", 8), ("c3", 4), ("l4", 4))
    }
    assert max(differences["c1"], differences["c3"]) < 1e-5
    assert differences["l4"] > 1e-3


def test_images_keep_their_size():
    init, apply = (partial(f, train=False) for f in (DeepFace().init, DeepFace().apply))
    variables = jax.eval_shape(init, jax.random.key(0), jnp.ones((1, 72, 72, 3)))
    with pytest.raises(UserError, match=r"local4 has kernels for 15x15 pixels.*keep the size"):
        jax.eval_shape(apply, variables, jnp.ones((1, 80, 72, 3)))


def test_stages_computed_again_give_the_same_gradients():
    images = jax.random.normal(jax.random.key(0), (2, 72, 72, 3))
    variables = initialize(jax.random.key(1), images)

    def gradient(checkpoint):
        def loss(variables):
            endpoints = DeepFace(checkpoint).apply(variables, images, train=False)
            return sum((endpoint**2).sum() for endpoint in endpoints.values())

        return jax.jit(jax.grad(loss))(variables), str(jax.make_jaxpr(jax.grad(loss))(variables))

    (kept, program), (again, remat) = gradient(False), gradient(True)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-3), kept, again)
    assert "remat" in remat
    assert "remat" not in program
