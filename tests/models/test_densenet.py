import jax
import numpy as np

from convnets.models import DenseLayer, create_model
from convnets.summary import summarize

from .shapes import endpoint_sizes


def test_sizes_of_table_1():
    sizes = endpoint_sizes("densenet121")
    assert sizes == {
        "stem": (112, 112, 64),
        "stage1": (56, 56, 256),
        "stage2": (28, 28, 512),
        "stage3": (14, 14, 1024),
        "stage4": (7, 7, 1024),
        "norm": (7, 7, 1024),
    }
    assert endpoint_sizes("densenet201")["norm"] == (7, 7, 1920)


def test_a_layer_keeps_its_input_and_adds_to_it():
    x = jax.random.normal(jax.random.key(0), (2, 4, 4, 6))
    layer = DenseLayer(5)
    y, variables = layer.init_with_output(jax.random.key(1), x, train=False)
    assert y.shape == (2, 4, 4, 11)
    np.testing.assert_array_equal(y[..., :6], x)
    assert variables["params"]["conv1"]["kernel"].shape == (1, 1, 6, 20)
    assert variables["params"]["conv2"]["kernel"].shape == (3, 3, 20, 5)


def test_dropout_stands_behind_every_layer():
    model = create_model("densenet121", layer_dropout=0.2)
    layers = summarize(model, (64, 64, 3)).layers
    assert sum(layer.type == "Dropout" for layer in layers) == 6 + 12 + 24 + 16
