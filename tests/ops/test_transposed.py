"""The transposed convolution against loops, and against the convolution that it transposes."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convnets.ops import convolve, convolve_transposed

CASES = [
    dict(),
    dict(stride=2, padding=1),
    dict(stride=3, padding=(0, 1), output_padding=(2, 1)),
    dict(stride=(1, 2), dilation=2, padding=2),
    dict(stride=2, padding=((0, 1), (1, 0))),
]


def loops(x, kernel, size, stride, padding, dilation):
    """Every pixel adds the kernel to those it comes from."""
    y = np.zeros((len(x), *size, kernel.shape[2]))
    (top, _), (left, _) = padding
    for n, i, j, a, b in itertools.product(*map(range, (*x.shape[:3], *kernel.shape[:2]))):
        row = i * stride[0] + a * dilation[0] - top
        column = j * stride[1] + b * dilation[1] - left
        if 0 <= row < size[0] and 0 <= column < size[1]:
            y[n, row, column] += kernel[a, b] @ x[n, i, j]
    return y


def pair(value):
    return value if isinstance(value, tuple) else (value, value)


@pytest.mark.parametrize("options", CASES, ids=str)
def test_against_loops_and_the_convolution(options):
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, 4, 5, 3)), rng.normal(size=(3, 2, 2, 3))
    with jax.enable_x64(True):
        y = np.asarray(convolve_transposed(jnp.asarray(x), jnp.asarray(kernel), **options))
        forward = {name: x for name, x in options.items() if name != "output_padding"}
        there = jnp.asarray(rng.normal(size=y.shape))
        product = jnp.vdot(convolve(there, jnp.asarray(kernel), **forward), x)
    padding = tuple(map(pair, pair(options.get("padding", 0))))
    stride, dilation = pair(options.get("stride", 1)), pair(options.get("dilation", 1))
    np.testing.assert_allclose(
        y, loops(x, kernel, y.shape[1:3], stride, padding, dilation), rtol=1e-12, atol=1e-12
    )
    np.testing.assert_allclose(np.vdot(there, y), product, rtol=1e-12)


def test_groups_are_convolutions_side_by_side():
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(1, 4, 4, 4)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(3, 3, 2, 4)), jnp.float32)
    parts = [
        convolve_transposed(x[..., i : i + 2], kernel[..., i : i + 2], stride=2) for i in (0, 2)
    ]
    np.testing.assert_allclose(
        convolve_transposed(x, kernel, stride=2, groups=2),
        jnp.concatenate(parts, -1),
        rtol=1e-5,
        atol=1e-5,
    )


def test_the_size_that_pytorch_documents():
    x, kernel = jnp.ones((1, 7, 7, 4)), jnp.ones((4, 4, 2, 4))
    assert convolve_transposed(x, kernel, stride=2, padding=1).shape == (1, 14, 14, 2)


@pytest.mark.parametrize(
    ("kernel", "options", "message"),
    [
        ((3, 3, 1, 2), {}, r"expected a kernel"),
        ((3, 3, 1, 4), {"output_padding": 1}, "less than the stride"),
        ((3, 3, 1, 4), {"padding": 4}, "leaves nothing"),
        ((3, 3, 1, 4), {"groups": 3}, "do not divide"),
    ],
)
def test_what_does_not_fit_is_refused(kernel, options, message):
    with pytest.raises(ValueError, match=message):
        convolve_transposed(jnp.ones((1, 4, 4, 4)), jnp.ones(kernel), **options)


def test_mixed_dtypes_are_refused():
    with pytest.raises(TypeError, match="bfloat16"):
        convolve_transposed(jnp.ones((1, 4, 4, 4)), jnp.ones((3, 3, 1, 4), jnp.bfloat16))
