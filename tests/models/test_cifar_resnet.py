import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from convnets.errors import UserError
from convnets.models import create_backbone, create_model, subsample_and_pad


def test_subsample_and_pad_has_no_parameters_and_zeros_at_the_end():
    x = np.random.default_rng(0).standard_normal((2, 5, 4, 3)).astype(np.float32)
    y = subsample_and_pad(jnp.asarray(x), 7, 2)
    assert y.shape == (2, 3, 2, 7)
    for row in range(3):
        for column in range(2):
            np.testing.assert_array_equal(y[:, row, column, :3], x[:, 2 * row, 2 * column])
    np.testing.assert_array_equal(y[..., 3:], 0)


def test_without_its_branches_the_residual_network_is_its_shortcuts():
    backbone = create_backbone("cifar_resnet8")
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.standard_normal((1, 9, 8, 3)), jnp.float32)
    shapes = jax.eval_shape(lambda x: backbone.init(jax.random.key(0), x, train=False), images)

    def value(path, leaf):
        silent = path[-2:] in (("bn2", "scale"), ("bn2", "bias"))
        return jnp.zeros(leaf.shape) if silent else jnp.float32(rng.uniform(0, 1, leaf.shape))

    variables = {path: value(path, leaf) for path, leaf in flatten_dict(shapes).items()}
    endpoints = backbone.apply(unflatten_dict(variables), images, train=False)
    expected = np.zeros((1, 3, 2, 64), np.float32)
    expected[..., :16] = endpoints["stem"][:, ::4, ::4]
    np.testing.assert_array_equal(endpoints["stage3"], expected)


def test_blocks_start_at_scales_of_one():
    block = create_backbone("cifar_resnet20").block(16)
    params = block.init(jax.random.key(0), jnp.ones((1, 4, 4, 16)), train=False)["params"]
    np.testing.assert_array_equal(params["bn2"]["scale"], np.ones(16))


def test_every_depth_of_the_form():
    assert create_backbone("cifar_plain14").stage_sizes == (2, 2, 2)
    assert create_model("cifar_resnet26_projection").num_classes == 10


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("cifar_resnet18", "cifar_resnet20"),
        ("cifar_plain2", "cifar_plain8"),
        ("cifar_resnet57_projection", "cifar_resnet56_projection"),
    ],
)
def test_other_depths_are_refused_with_the_nearest(name, nearest):
    with pytest.raises(UserError, match=f"6k \\+ 2.*'{nearest}'"):
        create_model(name)
