import jax
import numpy as np
import pytest

from convnets.layers import hard_sigmoid, hard_swish
from convnets.models import InvertedResidual, round_channels


def test_rounding_of_channels():
    for channels in range(1, 2000, 7):
        rounded = round_channels(channels)
        assert rounded % 8 == 0
        assert rounded >= 0.9 * channels
        assert abs(rounded - channels) <= 8


@pytest.mark.parametrize(("expanded", "squeezed"), [(12, None), (12, 4), (6, 4)])
def test_equals_its_parts(expanded, squeezed):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 5, 5, 6)).astype(np.float32)
    block = InvertedResidual(
        6, expanded, 3, squeezed=squeezed, activation=hard_swish, gate=hard_sigmoid
    )
    variables = block.init(jax.random.key(0), x, train=False)
    variables = jax.tree.map(lambda v: rng.uniform(0.5, 1.5, v.shape).astype(np.float32), variables)
    params, statistics = variables["params"], variables["batch_stats"]
    assert ("expand" in params) == (expanded != 6)

    def normalize(y, name):
        scale, bias = params[name]["scale"], params[name]["bias"]
        mean, variance = statistics[name]["mean"], statistics[name]["var"]
        return (y - mean) / np.sqrt(variance + 1e-5) * scale + bias

    def act(y):
        return y * np.clip(y + 3, 0, 6) / 6

    y = x.astype(float)
    if expanded != 6:
        y = act(normalize(y @ params["expand"]["kernel"][0, 0], "bn_expand"))
    padded = np.pad(y, ((0, 0), (1, 1), (1, 1), (0, 0)))
    kernel = params["depthwise"]["kernel"][:, :, 0]
    y = sum(padded[:, i : i + 5, j : j + 5] * kernel[i, j] for i in range(3) for j in range(3))
    y = act(normalize(y, "bn_depthwise"))
    if squeezed:
        parts = params["squeeze_excitation"]
        gate = np.maximum(y.mean((1, 2)) @ parts["reduce"]["kernel"] + parts["reduce"]["bias"], 0)
        gate = gate @ parts["expand"]["kernel"] + parts["expand"]["bias"]
        y = y * (np.clip(gate + 3, 0, 6) / 6)[:, None, None]
    y = x + normalize(y @ params["project"]["kernel"][0, 0], "bn_project")
    np.testing.assert_allclose(block.apply(variables, x, train=False), y, rtol=1e-4, atol=1e-3)


def test_an_example_may_skip_the_block_in_training():
    x = jax.random.normal(jax.random.key(0), (64, 3, 3, 4))
    block = InvertedResidual(4, 8, drop_path=0.5)
    variables = block.init(jax.random.key(1), x, train=False)
    y, _ = block.apply(
        variables, x, train=True, mutable=["batch_stats"], rngs={"dropout": jax.random.key(2)}
    )
    skipped = np.asarray((y == x).all((1, 2, 3)))
    assert 10 < skipped.sum() < 54
