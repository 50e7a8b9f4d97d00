import jax
import jax.numpy as jnp
import pytest

from convnets.errors import UserError
from convnets.models import create_model

from .shapes import endpoint_sizes


def test_sizes_of_table_1():
    sizes = endpoint_sizes("inception_v3")
    stem = [sizes[name] for name in ("conv1a", "conv2a", "conv2b", "conv3b", "conv4a")]
    assert stem == [(149, 149, 32), (147, 147, 32), (147, 147, 64), (73, 73, 80), (71, 71, 192)]
    assert [sizes[f"mixed5{letter}"] for letter in "bcd"] == [(35, 35, n) for n in (256, 288, 288)]
    assert {sizes[f"mixed6{letter}"] for letter in "abcde"} == {(17, 17, 768)}
    assert [sizes[f"mixed7{letter}"] for letter in "abc"] == [(8, 8, n) for n in (1280, 2048, 2048)]


def test_small_images_go_without_the_auxiliary_head():
    def init(side, **options):
        model = create_model("inception_v3", **options)
        images = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
        run = lambda x: model.init_with_output(jax.random.key(0), x, train=False)  # noqa: E731
        return jax.eval_shape(run, images)

    assert init(75, auxiliary=())[0].shape == (1, 1000)
    with pytest.raises(UserError, match=r"head behind mixed6e: .* auxiliary=\(\)"):
        init(128)
    with pytest.raises(UserError, match="for images of 74x74: .* larger images"):
        init(74, auxiliary=())
