import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import correlate2d

from convnets.errors import UserError
from convnets.models import PartialConv, Subsampling, create_model
from convnets.models.lenet import LENET1_CONNECTIONS, LENET5_CONNECTIONS
from convnets.summary import summarize


def test_connection_tables():
    """The lectures' and the papers' sums: maps seen by, and seeing, as many as published."""
    seen = np.bincount(np.concatenate(LENET5_CONNECTIONS))
    np.testing.assert_array_equal(seen, [10] * 6)
    assert [len(inputs) for inputs in LENET5_CONNECTIONS] == [3] * 6 + [4] * 9 + [6]
    assert len({*LENET5_CONNECTIONS}) == 16
    np.testing.assert_array_equal(np.bincount(np.concatenate(LENET1_CONNECTIONS)), [5] * 4)


def parameters_and_connections(name):
    """By layer. A connection is a weight or bias that is used at one place."""
    layers = summarize(create_model(name), (28, 28, 1)).layers
    parameters = [layer.parameters for layer in layers]
    places = [np.prod(layer.output_shape[:-1], dtype=int) for layer in layers]
    taps = [5 / 2 if layer.type == "Subsampling" else 1 for layer in layers]  # 4 share a weight
    return parameters, [int(n * p * t) for n, p, t in zip(parameters, places, taps)]


def test_lenet5_1998_has_the_numbers_of_the_paper():
    parameters, connections = parameters_and_connections("lenet5_1998")
    assert parameters == [156, 12, 1516, 32, 48120, 10164, 850]
    assert connections[:5] == [122_304, 5_880, 151_600, 2_000, 48_120]


def test_lenet1_has_the_numbers_of_the_paper():
    parameters, connections = parameters_and_connections("lenet1")
    assert sum(parameters) == 2_578
    assert sum(connections) == 98_442


def test_partial_convolution_sums_over_its_connections_only():
    connections = ((0, 2), (1,), (0, 1, 2))
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 6, 7, 3)).astype(np.float32)
    kernel = rng.standard_normal((3, 3, 6)).astype(np.float32)
    bias = rng.standard_normal(3).astype(np.float32)
    params = {"kernel": kernel, "bias": bias}
    y = PartialConv(connections, 3).apply({"params": params}, jnp.asarray(x))

    expected = np.zeros((2, 4, 5, 3))
    for example in range(2):
        number = 0
        for output, inputs in enumerate(connections):
            expected[example, ..., output] = bias[output]
            for channel in inputs:
                square = kernel[..., number].astype(float)
                image = x[example, ..., channel].astype(float)
                expected[example, ..., output] += correlate2d(image, square, "valid")
                number += 1
    np.testing.assert_allclose(y, expected, atol=1e-5)


def test_partial_convolution_starts_at_fan_in_of_each_map():
    connections = ((0,),) * 50 + (tuple(range(16)),) * 50
    x = jnp.ones((1, 5, 5, 16))
    kernel = PartialConv(connections, 5).init(jax.random.key(0), x)["params"]["kernel"]
    assert np.std(kernel[..., :50]) == pytest.approx(1 / 5, rel=0.05)
    assert np.std(kernel[..., 50:]) == pytest.approx(1 / 20, rel=0.05)


def test_subsampling_is_a_weighted_sum():
    x = np.arange(32, dtype=np.float32).reshape(1, 4, 4, 2)
    params = {"coefficient": np.float32([2, 3]), "bias": np.float32([0.5, -1])}
    y = Subsampling().apply({"params": params}, jnp.asarray(x))
    sums = x.reshape(1, 2, 2, 2, 2, 2).sum((2, 4))
    np.testing.assert_allclose(y, sums * [2, 3] + [0.5, -1], rtol=1e-6)


@pytest.mark.parametrize("name", ["lenet1", "lenet5", "lenet5_1998"])
def test_small_images_are_refused_with_their_size(name):
    model = create_model(name)
    with pytest.raises(UserError, match=r"came \d+x\d+"):
        jax.eval_shape(
            lambda x: model.init(jax.random.key(0), x, train=False), jnp.ones((1, 6, 6, 1))
        )
