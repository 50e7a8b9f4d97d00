from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import convnets
from convnets.errors import UserError
from convnets.layers import BatchNorm
from convnets.models import create_model

from .shapes import endpoint_sizes
from .variables import draw_variables

IMAGES = np.random.default_rng(0).random((4, 48, 48, 3), np.float32)


def test_sizes_of_table_1():
    sizes = endpoint_sizes("googlenet")
    assert sizes["conv1"] == (112, 112, 64)
    assert sizes["conv3"] == (56, 56, 192)
    assert sizes["inception3a"] == (28, 28, 256)
    assert sizes["inception3b"] == (28, 28, 480)
    widths = [sizes[f"inception4{letter}"][2] for letter in "abcde"]
    assert widths == [512, 512, 512, 528, 832]
    assert sizes["inception4e"][:2] == (14, 14)
    assert sizes["inception5b"] == (7, 7, 1024)
    assert list(sizes)[:4] == ["conv1", "conv2", "conv3", "inception3a"]


def test_poolings_round_up():
    sizes = endpoint_sizes("googlenet", (97, 131, 3))
    assert sizes["conv1"][:2] == (49, 66)
    assert sizes["conv3"][:2] == (24, 33)
    assert sizes["inception3b"][:2] == (12, 16)
    assert sizes["inception4e"][:2] == (6, 8)
    assert endpoint_sizes("googlenet", (144, 144, 3))["inception5b"][:2] == (5, 5)


def test_without_auxiliary_heads_as_many_parameters_as_published():
    model = create_model("googlenet", auxiliary=())
    images = jnp.ones((1, 224, 224, 3))
    shapes = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) == 6_624_904


@pytest.fixture(scope="module")
def made():
    model = create_model("googlenet", num_classes=3)
    return model, draw_variables(model, IMAGES.shape[1:])


def test_auxiliary_heads_train_with_the_model_and_are_never_returned(made):
    model, variables = made
    assert set(variables) == {"params", "batch_stats"}
    batch = {"image": IMAGES, "label": jnp.array([0, 1, 2, 0])}
    key = jax.random.key(1)

    def loss(params, weight):
        loss_fn = convnets.classification_loss(model, auxiliary_weight=weight)
        return loss_fn(params, variables["batch_stats"], batch, key)

    @jax.jit
    def run(params, weight):
        """The loss, its gradient, and what the heads sow: one program, with one forward pass."""
        dropout = {"dropout": jax.random.split(key)[1]}
        _, sown = model.apply(
            {**variables, "params": params},
            IMAGES,
            train=True,
            mutable=["batch_stats", "auxiliary"],
            rngs=dropout,
        )
        return jax.value_and_grad(loss, has_aux=True)(params, weight), sown["auxiliary"]

    ((value, (statistics, metrics)), grads), sown = run(variables["params"], 0.3)
    ((plain, (_, plain_metrics)), plain_grads), _ = run(variables["params"], 0.0)
    for number in (1, 2):
        name = f"auxiliary{number}"
        assert np.abs(grads[name]["head"]["kernel"]).max() > 0
        assert np.abs(plain_grads[name]["head"]["kernel"]).max() == 0
        changed = statistics[name]["conv"]["bn"]["mean"]
        assert np.abs(changed - variables["batch_stats"][name]["conv"]["bn"]["mean"]).max() > 0
    early = "inception3a"
    assert np.abs(grads["backbone"][early]["branch1"]["conv"]["kernel"]).max() > 0
    assert metrics["loss"][0] == plain_metrics["loss"][0]  # the metric is that of the logits

    heads = [jax.tree.leaves(sown[f"auxiliary{n}_logits"])[0] for n in (1, 2)]
    values = [convnets.losses.softmax_cross_entropy(x, batch["label"]).mean() for x in heads]
    np.testing.assert_allclose(value - plain, 0.3 * sum(values), rtol=1e-4)


def test_heads_take_the_norm_and_the_precision_of_the_model():
    norm = partial(BatchNorm, group_size=2)
    model = create_model("googlenet", num_classes=3, norm=norm, dtype=jnp.bfloat16)
    made = []

    def run(images):
        def record(next_function, args, kwargs, context):
            if context.method_name == "__call__" and isinstance(context.module, BatchNorm):
                made.append(context.module)
            return next_function(*args, **kwargs)

        variables = model.init(jax.random.key(0), images, train=False)
        keys = {"dropout": jax.random.key(0)}
        mutable = ["batch_stats", "auxiliary"]
        with nn.intercept_methods(record):
            return model.apply(variables, images, train=True, mutable=mutable, rngs=keys)

    logits, updates = jax.eval_shape(run, IMAGES)
    assert {logits.dtype, *(x.dtype for x in jax.tree.leaves(updates))} == {jnp.dtype("float32")}
    assert len(made) == 57 + 2
    assert {(module.group_size, module.epsilon) for module in made} == {(2, 1e-3)}


def test_heads_can_be_left_out(made):
    model, variables = made
    without = create_model("googlenet", num_classes=3, auxiliary=())

    @jax.jit
    def run(variables):  # both in one program, in which what they share is there once
        fewer = jax.tree.map(lambda x: x, variables)
        for name in ("auxiliary1", "auxiliary2"):
            del fewer["params"][name], fewer["batch_stats"][name]
        both = (without, fewer), (model, variables)
        return [model.apply(variables, IMAGES, train=False) for model, variables in both]

    np.testing.assert_allclose(*run(variables), rtol=1e-5, atol=1e-6)
    wrong = create_model("googlenet", auxiliary=(("inception9", None),))
    with pytest.raises(UserError, match="inception9"):
        jax.eval_shape(partial(wrong.init, train=False), jax.random.key(0), IMAGES)
