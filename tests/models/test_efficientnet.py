import jax
import jax.numpy as jnp
import pytest

from convnets.models import create_model, default_image_shape
from convnets.models.tracing import trace
from convnets.summary import summarize

from .shapes import endpoint_sizes


def test_sizes_of_table_1():
    sizes = endpoint_sizes("efficientnet_b0")
    assert [size[0] for size in sizes.values()] == [112, 112, 56, 28, 14, 14, 7, 7, 7]
    assert [size[2] for size in sizes.values()] == [32, 16, 24, 40, 80, 112, 192, 320, 1280]


def test_multiply_adds_of_table_2():
    """The paper counts 0.39 and 1.8 billion."""
    for name, billions in (("efficientnet_b0", 0.39), ("efficientnet_b3", 1.8)):
        summary = summarize(create_model(name), default_image_shape(name))
        assert summary.multiply_adds / 1e9 == pytest.approx(billions, rel=0.05)


def test_drop_path_grows_from_nothing():
    layers = summarize(create_model("efficientnet_b0"), (64, 64, 3)).layers
    skippable = [layer.path for layer in layers if layer.type == "DropPath"]
    assert len(skippable) == 16 - 7  # the first block of every stage has another shape
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    model = create_model("efficientnet_b0", drop_path=0.32)
    run = lambda x: model.init_with_output(jax.random.key(0), x, train=False)[0]  # noqa: E731
    calls, _ = trace(run, images)
    rates = {path: module.rate for path, (module, _) in calls.items() if path in skippable}
    assert rates["backbone/stage2_block2/drop_path"] == pytest.approx(2 / 16 * 0.32)
    assert rates["backbone/stage6_block4/drop_path"] == pytest.approx(14 / 16 * 0.32)
