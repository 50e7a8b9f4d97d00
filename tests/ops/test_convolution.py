"""Convolution against loops, and its gradients against finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from convnets import ops
from convnets.errors import UserError

# size, channels, features, kernel, and the options
CASES = [
    ((5, 7), 3, 4, (3, 3), dict(padding=1)),
    ((7, 6), 2, 3, (3, 2), dict(stride=(2, 1), padding=((1, 0), (0, 2)))),
    ((8, 9), 2, 2, (3, 3), dict(padding=(2, 3), dilation=(2, 3))),
    ((6, 7), 3, 2, (1, 1), dict(stride=2)),
    ((7, 9), 4, 6, (5, 3), dict(stride=(3, 2), padding=((2, 1), (0, 1)), groups=2)),
    ((6, 5), 4, 8, (2, 4), dict(padding=(1, 3), groups=4)),
    ((9, 8), 6, 3, (2, 3), dict(stride=2, padding=2, dilation=2, groups=3)),
]


def draw(size, channels, features, kernel_size, options, dtype=np.float32):
    random = np.random.default_rng(0)
    x = random.normal(size=(2, *size, channels))
    kernel = random.normal(size=(*kernel_size, channels // options.get("groups", 1), features))
    return x.astype(dtype), kernel.astype(dtype)


def convolve_by_loops(x, kernel, stride=1, padding=0, dilation=1, groups=1):
    def pair(value):
        return value if isinstance(value, tuple) else (value, value)

    (top, bottom), (left, right) = (pair(p) for p in pair(padding))
    stride, dilation = pair(stride), pair(dilation)
    x = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    inside, outside = kernel.shape[2], kernel.shape[3] // groups
    rows, columns = (
        len(range(0, n - (k - 1) * d, s))
        for n, k, d, s in zip(x.shape[1:3], kernel.shape, dilation, stride)
    )
    y = np.zeros((x.shape[0], rows, columns, kernel.shape[3]))
    for i in range(rows):
        for j in range(columns):
            for feature in range(kernel.shape[3]):
                first = feature // outside * inside
                for u in range(kernel.shape[0]):
                    for v in range(kernel.shape[1]):
                        pixel = x[
                            :, i * stride[0] + u * dilation[0], j * stride[1] + v * dilation[1]
                        ]
                        taps = kernel[u, v, :, feature]
                        y[:, i, j, feature] += pixel[:, first : first + inside] @ taps
    return y


@pytest.mark.parametrize("case", CASES, ids=str)
def test_forward_is_the_loop(case):
    x, kernel = draw(*case)
    y = jax.jit(lambda x, kernel: ops.convolve(x, kernel, **case[4]))(x, kernel)
    expected = convolve_by_loops(x.astype(np.float64), kernel.astype(np.float64), **case[4])
    assert y.dtype == jnp.float32
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
    size = {name: value for name, value in case[4].items() if name != "groups"}
    assert ops.output_size(case[0], case[3], **size) == expected.shape[1:3]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradients_are_the_finite_differences(case):
    with jax.enable_x64(True):
        x, kernel = draw(*case, dtype=np.float64)
        convolve = jax.jit(lambda x, kernel: ops.convolve(x, kernel, **case[4]))
        check_grads(convolve, (x, kernel), order=1, eps=1e-3, atol=1e-8, rtol=1e-8)


def test_half_precision_in_half_precision_out():
    x, kernel = draw(*CASES[0])
    y = ops.convolve(jnp.asarray(x, jnp.bfloat16), jnp.asarray(kernel, jnp.bfloat16), padding=1)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(y, convolve_by_loops(x, kernel, padding=1), rtol=0.05, atol=0.1)


def test_what_does_not_fit_is_refused_with_the_sizes():
    image, kernel = jnp.ones((1, 4, 6, 4)), jnp.ones((3, 3, 4, 2))
    with pytest.raises(UserError, match=r"at least 5x5 .* came 4x6"):
        ops.convolve(image, kernel, dilation=2)
    with pytest.raises(ValueError, match=r"takes 8 channels, but the image \(1, 4, 6, 4\) has 4"):
        ops.convolve(image, kernel, groups=2)
    with pytest.raises(ValueError, match="3 groups do not divide 4 channels"):
        ops.convolve(image, kernel, groups=3)
    with pytest.raises(ValueError, match=r"\[B, H, W, C\], came shape \(4, 6, 4\)"):
        ops.convolve(image[0], kernel)
    with pytest.raises(ValueError, match="padding is at least 0"):
        ops.convolve(image, kernel, padding=((0, -1), (0, 0)))
    with pytest.raises(ValueError, match="at least 1"):
        ops.convolve(image, kernel, stride=0)
    with pytest.raises(TypeError, match="float"):
        ops.convolve(image, kernel, stride=1.5)
    with pytest.raises(TypeError, match="uint8"):
        ops.convolve(image.astype(jnp.uint8), kernel.astype(jnp.uint8))
    with pytest.raises(TypeError, match="float32 but the kernel bfloat16"):
        ops.convolve(image, kernel.astype(jnp.bfloat16))


def test_padding_by_a_word_is_refused_with_the_number():
    with pytest.raises(TypeError, match="not 'SAME': 0 for VALID"):
        ops.convolve(jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 1)), padding="SAME")
