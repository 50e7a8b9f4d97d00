"""Stochastic depth in residual networks: a block is its shortcut, example by example."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import convnets
from convnets.layers import depth_rates, ones
from convnets.models import (
    BasicBlock,
    Bottleneck,
    PreActivationBlock,
    PreActivationBottleneck,
    ResNet,
    create_model,
)
from convnets.models.cifar_resnet import keep, stem3x3
from convnets.models.tracing import trace

BLOCKS = {
    "basic": partial(BasicBlock, 8, last_scale_init=ones),
    "bottleneck": partial(Bottleneck, 2, last_scale_init=ones, group_width=64),
    "basic, before": partial(PreActivationBlock, 8),
    "bottleneck, before": partial(PreActivationBottleneck, 2),
}
IMAGES = np.random.default_rng(0).standard_normal((16, 3, 2, 8)).astype(np.float32)


def initialize(block):
    return jax.jit(partial(block.init, train=False))(jax.random.key(0), IMAGES)


def evaluate(block, variables):
    return jax.jit(partial(block.apply, train=False))(variables, IMAGES)


def run(block, variables, images=IMAGES):
    """In training, with one key."""
    given = {"train": True, "mutable": ["batch_stats"], "rngs": {"dropout": jax.random.key(1)}}
    return jax.jit(partial(block.apply, **given))(variables, images)[0]


@pytest.mark.parametrize("name", BLOCKS)
def test_an_example_skips_a_block_in_training_alone(name):
    create = BLOCKS[name]
    variables = initialize(create())
    block = create(drop_path=0.5)
    like = jax.eval_shape(partial(block.init, train=False), jax.random.key(0), IMAGES)
    assert jax.tree.structure(like) == jax.tree.structure(variables)
    finish = (lambda x: x) if "before" in name else partial(np.maximum, 0)
    np.testing.assert_array_equal(run(create(drop_path=1 - 1e-6), variables), finish(IMAGES))
    np.testing.assert_array_equal(evaluate(block, variables), evaluate(create(), variables))


@pytest.mark.parametrize("name", ["basic, before", "bottleneck, before"])
def test_every_example_is_decided_by_its_own_key(name):
    create = BLOCKS[name]
    variables = initialize(create())
    branch = run(create(), variables) - IMAGES
    found = run(create(drop_path=0.75), variables) - IMAGES
    kept = np.abs(found).max((1, 2, 3)) > 0
    assert 0 < kept.sum() < len(kept) / 2
    expected = np.where(kept[:, None, None, None], 4 * branch, 0)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    part = run(create(drop_path=0.75), variables, IMAGES[:8]) - IMAGES[:8]
    np.testing.assert_array_equal(np.abs(part).max((1, 2, 3)) > 0, kept[:8])


@pytest.mark.parametrize(
    ("name", "blocks"),
    [("cifar_resnet20", 9), ("seresnet18", 8), ("resnext50_32x4d", 16), ("cifar_wrn16_4", 6)],
)
def test_rates_grow_from_block_to_block(name, blocks):
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)

    def dropped(**options):
        model = create_model(name, **options)
        forward = partial(model.init_with_output, jax.random.key(0), train=False)
        calls, _ = trace(lambda x: forward(x)[0], images)
        return [module.rate for path, (module, _) in calls.items() if path.endswith("drop_path")]

    assert dropped() == []
    assert dropped(drop_path=0.5) == depth_rates(0.5, blocks)[1:]


@pytest.mark.parametrize("name", ["plain18", "cifar_plain8"])
def test_without_a_branch_there_is_nothing_to_drop(name):
    with pytest.raises(convnets.UserError, match="no option 'drop_path'"):
        create_model(name, drop_path=0.1)


def test_stages_that_are_computed_again_drop_the_same():
    options = {"block": BasicBlock, "features": 4, "stem": stem3x3, "stem_pool": keep}
    options |= {"last_scale_init": ones, "drop_path": 0.5}
    kept, again = (ResNet((2,), checkpoint=x, **options) for x in (False, True))
    variables = initialize(kept)

    def gradient(network):
        def loss(params):
            given = {"batch_stats": variables["batch_stats"], "params": params}
            return jnp.sum(run(network, given)["stage1"] ** 2)

        return jax.jit(jax.grad(loss))(variables["params"])

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4),
        gradient(kept),
        gradient(again),
    )
