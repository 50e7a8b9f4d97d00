"""Conv and Dense: parameters, shapes, dtypes, and gradients against finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from convnets import ops
from convnets.errors import UserError
from convnets.layers import Conv, ConvTranspose, Dense, constant

KEY = jax.random.key(0)


def randomly(variables):
    """The same tree, every leaf filled with random numbers."""
    leaves, structure = jax.tree.flatten(variables)
    random = np.random.default_rng(0)
    return structure.unflatten(
        [random.normal(size=leaf.shape).astype(np.float32) for leaf in leaves]
    )


def draw(*shape):
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def test_conv_is_the_convolution_and_a_bias():
    x = draw(2, 7, 6, 4)
    conv = Conv(6, (3, 2), (2, 1), padding=((1, 0), (2, 1)), dilation=(1, 2), groups=2)
    variables = randomly(conv.init(KEY, x))
    kernel, bias = variables["params"]["kernel"], variables["params"]["bias"]
    assert kernel.shape == (3, 2, 2, 6)
    expected = ops.convolve(
        x, kernel, stride=(2, 1), padding=((1, 0), (2, 1)), dilation=(1, 2), groups=2
    )
    expected = expected + bias.reshape(1, 1, 1, 6)
    np.testing.assert_allclose(jax.jit(conv.apply)(variables, x), expected, rtol=1e-6, atol=1e-6)
    bare = Conv(6, (3, 2), use_bias=False).init(KEY, x)
    assert set(bare["params"]) == {"kernel"}


@pytest.mark.parametrize(
    ("conv", "size"),
    [
        (Conv(1, 3), (9, 8)),
        (Conv(1, (5, 1), dilation=2), (9, 8)),
        (Conv(1, 3, 2), (5, 4)),
        (Conv(1, 3, padding=0), (7, 6)),
        (Conv(1, 4), (10, 9)),  # an even kernel has no middle
    ],
    ids=str,
)
def test_padding_is_half_the_kernel_unless_given(conv, size):
    shape = jax.eval_shape(conv.init_with_output, KEY, jnp.ones((1, 9, 8, 1)))[0].shape
    assert shape == (1, *size, 1)


def test_dense_is_the_matrix_product_and_a_bias():
    x = draw(2, 3, 5)
    variables = randomly(Dense(4).init(KEY, x))
    kernel, bias = variables["params"]["kernel"], variables["params"]["bias"]
    assert (kernel.shape, bias.shape) == ((5, 4), (4,))
    expected = np.einsum("abc,cd->abd", x, kernel) + bias[None, None]
    np.testing.assert_allclose(Dense(4).apply(variables, x), expected, rtol=1e-5, atol=1e-6)
    assert set(Dense(4, use_bias=False).init(KEY, x)["params"]) == {"kernel"}


@pytest.mark.parametrize(("layer", "shape"), [(Conv(3, 3, 2), (2, 5, 4, 2)), (Dense(3), (2, 4))])
def test_gradients_are_the_finite_differences(layer, shape):
    x = draw(*shape)
    variables = randomly(layer.init(KEY, x))
    with jax.enable_x64(True):
        x, variables = jax.tree.map(lambda leaf: leaf.astype(np.float64), (x, variables))
        check_grads(jax.jit(layer.apply), (variables, x), order=1, eps=1e-3, atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize(("layer", "shape"), [(Conv(3, 3), (1, 5, 4, 2)), (Dense(3), (2, 4))])
def test_parameters_are_float32_and_the_input_sets_the_precision(layer, shape):
    for dtype in (jnp.float32, jnp.bfloat16):
        y, variables = jax.jit(layer.init_with_output)(KEY, jnp.ones(shape, dtype))
        assert y.dtype == dtype
        assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    with jax.enable_x64(True):
        y, variables = jax.jit(layer.init_with_output)(KEY, jnp.ones(shape, jnp.float64))
        assert y.dtype == jnp.float64
        assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    with pytest.raises(TypeError, match="uint8"):
        layer.init(KEY, jnp.ones(shape, jnp.uint8))


def test_initializers_are_used():
    layers = (
        Conv(2, 3, kernel_init=constant(2.0), bias_init=constant(3.0)),
        Dense(2, kernel_init=constant(2.0), bias_init=constant(3.0)),
    )
    for layer, shape in zip(layers, ((1, 4, 4, 1), (1, 4))):
        parameters = layer.init(KEY, jnp.ones(shape))["params"]
        assert (parameters["kernel"] == 2).all()
        assert (parameters["bias"] == 3).all()


def test_what_does_not_fit_is_refused():
    with pytest.raises(UserError, match="at least 5x5 pixels"):
        Conv(1, 5, padding=1).init(KEY, jnp.ones((1, 2, 9, 1)))
    with pytest.raises(ValueError, match="2 groups do not divide"):
        Conv(2, 3, groups=2).init(KEY, jnp.ones((1, 9, 9, 3)))
    with pytest.raises(ValueError, match=r"came shape \(9, 9, 3\)"):
        Conv(2, 3).init(KEY, jnp.ones((9, 9, 3)))


def test_a_transposed_convolution_is_the_gradient_of_a_convolution():
    layer = ConvTranspose(4, 3, 2, padding=1, output_padding=1, groups=2)
    x = draw(2, 5, 6, 6)
    variables = randomly(layer.init(KEY, x))
    kernel, bias = variables["params"]["kernel"], variables["params"]["bias"]
    assert kernel.shape == (3, 3, 2, 6)
    y = layer.apply(variables, x)
    assert y.shape == (2, 10, 12, 4)

    def convolve(images):
        return ops.convolve(images, kernel, stride=2, padding=1, groups=2)

    (gradient,) = jax.vjp(convolve, jnp.zeros(y.shape))[1](x)
    np.testing.assert_allclose(y, gradient + bias.reshape(1, 1, 1, 4), rtol=1e-5, atol=1e-5)
    bare = ConvTranspose(4, 3, use_bias=False).init(KEY, x)
    assert set(bare["params"]) == {"kernel"}
    with pytest.raises(ValueError, match="do not divide 4 features"):
        ConvTranspose(4, 3, groups=3).init(KEY, x)


def test_a_transposed_convolution_keeps_the_variance():
    x = draw(4, 20, 20, 64)
    layer = ConvTranspose(16, 3, use_bias=False)
    y = layer.init_with_output(KEY, x)[0]
    np.testing.assert_allclose(np.var(y[:, 2:-2, 2:-2]), np.var(x), rtol=0.1)
