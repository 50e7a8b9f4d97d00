import jax
import jax.numpy as jnp
import numpy as np
import pytest

import convnets
from convnets.errors import UserError
from convnets.models import create_model, reset_head

from .variables import draw_variables

IMAGES = jax.random.normal(jax.random.key(0), (2, 32, 32, 3))


@pytest.fixture(scope="module")
def variables():
    model = create_model("cifar_resnet8")
    return draw_variables(model, IMAGES.shape[1:])


def test_only_the_head_is_another(variables):
    fresh = reset_head(variables, 37)
    assert fresh["params"]["head"]["kernel"].shape == (64, 37)
    assert (fresh["params"]["head"]["bias"] == np.zeros(37)).all()
    assert abs(fresh["params"]["head"]["kernel"].std() - 64**-0.5) < 0.01
    assert fresh["batch_stats"] is variables["batch_stats"]
    kept = {**variables["params"]}, {**fresh["params"]}
    for params in kept:
        params.pop("head")
    assert jax.tree.structure(kept[0]) == jax.tree.structure(kept[1])
    assert all(a is b for a, b in zip(*map(jax.tree.leaves, kept)))
    assert variables["params"]["head"]["kernel"].shape == (64, 10)  # the given ones stay
    model = create_model("cifar_resnet8", num_classes=37)
    logits = jax.eval_shape(lambda fresh: model.apply(fresh, IMAGES, train=False), fresh)
    assert logits.shape == (2, 37)


def test_parameters_alone_come_back_alone(variables):
    params = reset_head(variables["params"], 3)
    assert set(params) == set(variables["params"])
    expected = reset_head(variables, 3)["params"]["head"]["kernel"]
    np.testing.assert_array_equal(params["head"]["kernel"], expected)


def test_the_key_decides(variables):
    def kernel(*key):
        return np.asarray(reset_head(variables, 10, *key)["params"]["head"]["kernel"])

    np.testing.assert_array_equal(kernel(), kernel(jax.random.key(0)))
    assert np.abs(kernel() - kernel(jax.random.key(1))).max() > 0.01
    assert np.abs(kernel() - variables["params"]["head"]["kernel"]).max() > 0.01


def test_auxiliary_heads_are_reset_too():
    layer = {"kernel": jnp.ones((4, 10)), "bias": jnp.ones(10)}
    other = {"kernel": jnp.ones((4, 4))}
    params = {
        "backbone": {"head": layer},
        "head": layer,
        "auxiliary1": {"dense1": other, "head": layer},
        "auxiliary2": {"head": {"kernel": jnp.ones((4, 10))}},
    }
    fresh = reset_head(params, 7)
    assert fresh["backbone"] is params["backbone"]
    assert fresh["auxiliary1"]["dense1"] is other
    kernels = [fresh[name]["head"]["kernel"] for name in ("auxiliary1", "auxiliary2")]
    kernels.append(fresh["head"]["kernel"])
    assert [kernel.shape for kernel in kernels] == [(4, 7)] * 3
    assert len({float(kernel[0, 0]) for kernel in kernels}) == 3  # each has a key of its own
    assert list(fresh["auxiliary2"]["head"]) == ["kernel"]


def test_what_has_no_head_is_refused(variables):
    assert convnets.reset_head is reset_head
    with pytest.raises(UserError, match=r"no head among \['bn1', 'conv1'"):
        reset_head({"params": variables["params"]["backbone"]}, 10)
    for count in (0, -1):
        with pytest.raises(UserError, match=f"at least 1 class, came num_classes {count}"):
            reset_head(variables, count)
