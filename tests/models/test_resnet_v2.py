import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convnets.errors import UserError
from convnets.models import PreActivationBlock, PreActivationBottleneck, create_model

from .shapes import endpoint_sizes


def test_sizes():
    sizes = endpoint_sizes("resnetv2_50")
    assert list(sizes) == ["stem", "stage1", "stage2", "stage3", "stage4", "norm"]
    assert sizes["stem"] == (112, 112, 64)
    assert sizes["norm"] == sizes["stage4"] == (7, 7, 2048)
    sizes = endpoint_sizes("cifar_wrn28_10")
    assert [size for size in sizes.values()] == [
        (32, 32, 16), (32, 32, 160), (16, 16, 320), (8, 8, 640), (8, 8, 640),
    ]  # fmt: skip


@pytest.mark.parametrize("block", [PreActivationBlock(16), PreActivationBottleneck(4)])
def test_shortcuts_are_the_identity_where_the_shape_stays(block):
    x = jax.random.normal(jax.random.key(0), (2, 4, 4, 16))
    variables = block.init(jax.random.key(1), x, train=False)
    assert "conv_shortcut" not in variables["params"]
    last = "conv3" if "conv3" in variables["params"] else "conv2"
    variables["params"][last]["kernel"] = jnp.zeros_like(variables["params"][last]["kernel"])
    np.testing.assert_array_equal(block.apply(variables, x, train=False), x)


def test_a_shortcut_that_changes_the_shape_comes_behind_the_first_relu():
    block = PreActivationBlock(8, 2)
    x = -jnp.ones((1, 4, 4, 4))
    variables = block.init(jax.random.key(1), x, train=False)
    np.testing.assert_array_equal(block.apply(variables, x, train=False), 0)  # ReLU of -1
    assert variables["params"]["conv_shortcut"]["kernel"].shape == (1, 1, 4, 8)


def test_every_depth_and_width_of_wide_networks():
    assert create_model("cifar_wrn34_3").backbone.stage_sizes == (5, 5, 5)
    assert create_model("cifar_wrn34_3").backbone.features == 48
    with pytest.raises(UserError, match="try 'cifar_wrn28_10'"):
        create_model("cifar_wrn29_10")
    with pytest.raises(UserError, match="unknown model"):
        create_model("cifar_wrn28")
