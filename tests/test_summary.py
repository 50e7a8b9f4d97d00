import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from jax import lax

from convnets.models import create_model
from convnets.summary import format_summary, summarize


@pytest.mark.parametrize(
    ("name", "multiply_adds"),
    [("resnet18", 1_814_073_344), ("resnet34", 3_663_761_408), ("resnet50", 4_089_184_256)],
)
def test_multiply_adds_are_as_many_as_published(name, multiply_adds):
    model = create_model(name)
    summary = summarize(model, (224, 224, 3))
    assert summary.multiply_adds == multiply_adds
    assert sum(layer.multiply_adds for layer in summary.layers) == multiply_adds
    assert sum(layer.parameters for layer in summary.layers) == summary.parameters
    assert [feature.stride for feature in summary.endpoints] == [2, 4, 8, 16, 32]


def test_layers_of_lenet5():
    summary = summarize(create_model("lenet5"), (28, 28, 1))
    assert [tuple(layer) for layer in summary.layers] == [
        ("backbone/conv1", "Conv", (28, 28, 6), 156, 28 * 28 * 6 * 25),
        ("backbone/conv2", "Conv", (10, 10, 16), 2416, 10 * 10 * 16 * 25 * 6),
        ("hidden/dense1", "Dense", (120,), 48120, 400 * 120),
        ("hidden/dense2", "Dense", (84,), 10164, 120 * 84),
        ("head", "Dense", (10,), 850, 840),
    ]
    outputs = 28 * 28 * 6 + 10 * 10 * 16 + 120 + 84 + 10
    assert summary.activation_bytes == 4 * outputs


class Loop(nn.Module):
    """A kernel of its own in a loop, beside a layer within it."""

    @nn.compact
    def __call__(self, x):
        kernel = self.param("kernel", nn.initializers.ones, (6, 6))
        x = nn.Dense(6, name="inner")(x)
        return lax.fori_loop(0, 4, lambda _, x: jnp.tanh(x @ kernel), x)


class Foreign(nn.Module):
    """Flax's own layers, a transposed convolution, jit, a branch: nothing from this package."""

    @nn.compact
    def __call__(self, images):
        x = nn.Conv(6, (3, 3), feature_group_count=3, name="grouped")(images)
        x = nn.ConvTranspose(6, (2, 2), strides=(2, 2), name="transposed")(x)
        x = x.mean((1, 2))
        x = Loop(name="loop")(x)
        x = jax.jit(nn.relu)(x)
        square = jnp.ones((6, 6))
        return lax.cond(x.sum() > 0, lambda x: x @ square @ square, lambda x: x @ square, x)


def test_foreign_modules_are_counted_in_full():
    layers = {layer.path: layer for layer in summarize(Foreign(), (8, 8, 3)).layers}
    assert {path: (layer.parameters, layer.multiply_adds) for path, layer in layers.items()} == {
        "grouped": (9 * 6 + 6, 8 * 8 * 9 * 6),
        "transposed": (4 * 36 + 6, 8 * 8 * 4 * 36),
        "loop": (36, 4 * 36),
        "loop/inner": (42, 36),
        "": (0, 2 * 36),
    }
    assert layers["transposed"].output_shape == (16, 16, 6)


def test_table():
    text = format_summary(summarize(create_model("lenet5"), (28, 28, 1)))
    lines = text.splitlines()
    assert lines[0].split() == ["layer", "type", "output", "parameters", "multiply-adds"]
    assert lines[2].split() == ["backbone/conv1", "Conv", "28x28x6", "156", "117,600"]
    assert lines[8].split() == ["total", "61,706", "416,520"]
    assert len({len(line) for line in lines[:9]}) == 1
    assert "61.7 k parameters, 417 k multiply-adds" in text
    assert lines[-1].startswith("endpoints: c1 (stride 1, 6 channels), s2 (stride 2, 6 channels)")
