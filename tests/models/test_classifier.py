from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convnets.models import Classifier, DenseLayers, LeNet5, create_model, flatten


class Doubler(nn.Module):
    """A backbone without parameters, whose last endpoint comes first in the alphabet."""

    @nn.compact
    def __call__(self, images, *, train):
        return {"stage": images, "double": 2 * images}


IMAGES = jnp.arange(24.0).reshape(2, 2, 2, 3)


def test_endpoints_keep_their_order_and_end_in_logits():
    model = Classifier(Doubler(), 5)
    variables = model.init(jax.random.key(0), IMAGES, train=False)
    endpoints = model.apply(variables, IMAGES, train=False, method="endpoints")
    assert list(endpoints) == ["stage", "double", "pre_logits", "logits"]
    np.testing.assert_allclose(endpoints["pre_logits"], 2 * IMAGES.mean((1, 2)))
    logits = model.apply(variables, IMAGES, train=False)
    np.testing.assert_array_equal(endpoints["logits"], logits)


def test_without_classes_there_is_no_head():
    model = Classifier(Doubler(), 0, pool=flatten)
    variables = model.init(jax.random.key(0), IMAGES, train=False)
    assert variables == {}
    pre_logits = model.apply(variables, IMAGES, train=False)
    np.testing.assert_array_equal(pre_logits, 2 * IMAGES.reshape(2, -1))
    assert "logits" not in model.apply(variables, IMAGES, train=False, method="endpoints")


def test_hidden_layers_stand_between_pool_and_head():
    model = Classifier(Doubler(), 5, hidden=partial(DenseLayers, features=(4, 6)))
    params = model.init(jax.random.key(0), IMAGES, train=False)["params"]
    assert params["hidden"]["dense1"]["kernel"].shape == (3, 4)
    assert params["head"]["kernel"].shape == (6, 5)


def test_dropout_acts_before_the_head_in_training_only():
    model = Classifier(Doubler(), 5, dropout=0.5)
    variables = model.init(jax.random.key(0), IMAGES, train=False)
    plain = Classifier(Doubler(), 5).apply(variables, IMAGES, train=True)
    evaluated = model.apply(variables, IMAGES, train=False)
    np.testing.assert_array_equal(evaluated, plain)
    dropped = [
        model.apply(variables, IMAGES, train=True, rngs={"dropout": jax.random.key(seed)})
        for seed in range(4)
    ]
    assert any(np.abs(logits - plain).max() > 1e-3 for logits in dropped)


def test_bytes_and_single_images_are_refused():
    model = Classifier(LeNet5(), 10)
    with pytest.raises(TypeError, match=r"uint8.*prepare"):
        model.init(jax.random.key(0), jnp.zeros((1, 28, 28, 1), jnp.uint8), train=False)
    with pytest.raises(ValueError, match=r"\[B, H, W, C\].*\(28, 28, 1\)"):
        model.init(jax.random.key(0), jnp.zeros((28, 28, 1)), train=False)


def test_float64_stays_float64():
    with jax.enable_x64(True):
        model = create_model("linear", dtype=jnp.float64)
        images = jnp.ones((1, 2, 2, 1), jnp.float64)
        logits, variables = model.init_with_output(jax.random.key(0), images, train=False)
    assert logits.dtype == jnp.float64
    assert variables["params"]["head"]["kernel"].shape == (4, 10)
