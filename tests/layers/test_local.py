"""Locally connected layers against loops, finite differences, and convolution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from convnets.errors import UserError
from convnets.layers import Conv, LocallyConnected, TiledConv, constant
from convnets.summary import summarize

KEY = jax.random.key(0)


def randomly(variables, dtype=np.float32):
    """The same tree, every leaf filled with random numbers."""
    leaves, structure = jax.tree.flatten(variables)
    random = np.random.default_rng(0)
    return structure.unflatten([random.normal(size=leaf.shape).astype(dtype) for leaf in leaves])


def draw(*shape):
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def loop(x, kernel, bias, stride, padding):
    """The sum over every tap of every pixel, one after the other."""
    x = np.pad(x, ((0, 0), *padding, (0, 0)))
    y = np.zeros((len(x), *bias.shape))
    for row, column in np.ndindex(kernel.shape[:2]):
        for i, j in np.ndindex(kernel.shape[2:4]):
            pixel = x[:, row * stride[0] + i, column * stride[1] + j]
            y[:, row, column] += pixel @ kernel[row, column, i, j]
    return y + bias


LAYERS = [
    (LocallyConnected(4, 3), (7, 6), (1, 1), ((0, 0), (0, 0))),
    (LocallyConnected(4, (3, 2), (2, 1)), (8, 5), (2, 1), ((0, 0), (0, 0))),
    (LocallyConnected(4, 3, (1, 3), padding=1), (5, 9), (1, 3), ((1, 1), (1, 1))),
    (LocallyConnected(4, 2, 2, padding=((1, 0), (0, 2))), (6, 7), (2, 2), ((1, 0), (0, 2))),
    (LocallyConnected(4, (5, 6)), (5, 6), (1, 1), ((0, 0), (0, 0))),
]


@pytest.mark.parametrize(("layer", "size", "stride", "padding"), LAYERS)
def test_values_are_those_of_loops(layer, size, stride, padding):
    with jax.enable_x64(True):
        x = draw(2, *size, 3).astype(np.float64)
        variables = randomly(layer.init(KEY, x), np.float64)
        kernel, bias = variables["params"]["kernel"], variables["params"]["bias"]
        y = jax.jit(layer.apply)(variables, x)
    assert y.dtype == np.float64
    expected = loop(x, kernel, bias, stride, padding)
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("layer", "size", "stride", "padding"), LAYERS)
def test_gradients_are_the_finite_differences(layer, size, stride, padding):
    with jax.enable_x64(True):
        x = draw(2, *size, 2).astype(np.float64)
        variables = randomly(layer.init(KEY, x), np.float64)
        check_grads(jax.jit(layer.apply), (variables, x), order=1, eps=1e-3, atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (2, 1), ((1, 2), (0, 2))])
def test_equal_kernels_are_a_convolution(stride, padding):
    x = draw(2, 9, 8, 3)
    conv = Conv(5, (3, 4), stride, padding=padding)
    variables = randomly(conv.init(KEY, x))
    expected = conv.apply(variables, x)
    shared = {
        name: np.broadcast_to(leaf, (*expected.shape[1:3], *leaf.shape))
        for name, leaf in variables["params"].items()
    }
    y = LocallyConnected(5, (3, 4), stride, padding).apply({"params": shared}, x)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


def test_every_pixel_has_its_own_kernel():
    """Another kernel at one pixel changes that pixel of the result, and no other."""
    x, layer = draw(1, 5, 6, 2), LocallyConnected(3, 2)
    variables = randomly(layer.init(KEY, x))
    other = jax.tree.map(np.copy, variables)
    other["params"]["kernel"][2, 3] += 1
    changed = (layer.apply(variables, x) != layer.apply(other, x)).any((0, 3))
    assert np.argwhere(changed).tolist() == [[2, 3]]


def test_parameters_are_float32_and_the_input_sets_the_precision():
    layer = LocallyConnected(4, 3)
    for dtype in (jnp.float32, jnp.bfloat16):
        y, variables = jax.jit(layer.init_with_output)(KEY, jnp.ones((1, 5, 5, 2), dtype))
        assert y.dtype == dtype
        assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    with pytest.raises(TypeError, match="uint8"):
        layer.init(KEY, jnp.ones((1, 5, 5, 2), jnp.uint8))


def test_parameters_start_as_told():
    x = jnp.ones((1, 21, 21, 6))
    params = jax.jit(LocallyConnected(20, 2).init)(KEY, x)["params"]
    assert params["kernel"].shape == (20, 20, 2, 2, 6, 20)
    assert params["bias"].shape == (20, 20, 20)
    assert abs(params["kernel"].std() - 24**-0.5) < 1e-3  # 2 * 2 * 6 values for each sum
    assert (params["bias"] == 0).all()
    told = LocallyConnected(1, 2, kernel_init=constant(2.0), bias_init=constant(3.0))
    params = jax.jit(told.init)(KEY, x)["params"]
    assert ((params["kernel"] == 2).all(), (params["bias"] == 3).all()) == (True, True)
    bare = jax.eval_shape(LocallyConnected(1, 2, use_bias=False).init, KEY, x)
    assert set(bare["params"]) == {"kernel"}


def test_multiply_adds_are_counted():
    summary = summarize(LocallyConnected(4, 3), (7, 6, 2))
    assert summary.multiply_adds == 5 * 4 * 3 * 3 * 2 * 4
    assert summary.parameters == summary.multiply_adds + 5 * 4 * 4


def test_another_size_is_refused():
    layer = LocallyConnected(4, 3)
    variables = layer.init(KEY, draw(1, 7, 6, 2))
    with pytest.raises(UserError, match=r"kernels for 5x4 pixels.*8x6 makes 6x4.*keep the size"):
        layer.apply(variables, draw(1, 8, 6, 2))
    with pytest.raises(UserError, match="at least 3x3 pixels"):
        layer.init(KEY, draw(1, 2, 6, 2))


@pytest.mark.parametrize("period", [1, 2])
def test_tiled_pixels_have_the_kernel_and_the_bias_of_their_place(period):
    layer = TiledConv(4, 3, period=period, padding=1)
    x = draw(2, 5, 6, 3)
    variables = randomly(layer.init(KEY, x))
    kernel, bias = variables["params"]["kernel"], variables["params"]["bias"]
    assert kernel.shape == (period, period, 3, 3, 3, 4)
    assert bias.shape == (period, period, 4)
    rows, columns = np.arange(5)[:, None] % period, np.arange(6)[None] % period
    own = {"params": {"kernel": kernel[rows, columns], "bias": bias[rows, columns]}}
    expected = LocallyConnected(4, 3, padding=1).apply(own, x)
    np.testing.assert_allclose(layer.apply(variables, x), expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="period is at least 1"):
        TiledConv(4, 3, period=0).init(KEY, x)


def test_tiled_kernels_begin_as_those_of_a_convolution():
    x = np.ones((1, 20, 20, 8), np.float32)
    tiled = TiledConv(32, 5, period=2, use_bias=False).init(KEY, x)["params"]["kernel"]
    np.testing.assert_allclose(np.var(tiled), 1 / (25 * 8), rtol=0.05)
