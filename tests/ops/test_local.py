"""What `convolve_locally` refuses (its numbers: with the layer), and windows of wide kernels."""

import jax.numpy as jnp
import numpy as np
import pytest

from convnets.errors import UserError
from convnets.ops import (
    convolve,
    convolve_locally,
    convolve_windows,
    output_size,
    spread_locally,
)


def test_what_does_not_fit_is_refused():
    x = jnp.ones((1, 5, 5, 2))
    assert convolve_locally(x, jnp.ones((3, 3, 3, 3, 2, 4))).shape == (1, 3, 3, 4)
    with pytest.raises(UserError, match=r"5x5 pixels makes 3x3 pixels.*kernels for 3x2"):
        convolve_locally(x, jnp.ones((3, 2, 3, 3, 2, 4)))
    with pytest.raises(ValueError, match=r"2 channels.*came \(3, 3, 3, 3, 1, 4\)"):
        convolve_locally(x, jnp.ones((3, 3, 3, 3, 1, 4)))
    with pytest.raises(ValueError, match=r"expected a kernel \[H', W'"):
        convolve_locally(x, jnp.ones((3, 3, 2, 4)))
    with pytest.raises(TypeError, match="bfloat16"):
        convolve_locally(x, jnp.ones((3, 3, 3, 3, 2, 4), jnp.bfloat16))
    with pytest.raises(TypeError, match="int32"):
        convolve_locally(x.astype(jnp.int32), jnp.ones((3, 3, 3, 3, 2, 4)))


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (5, 6)])
def test_windows_and_a_kernel_are_a_convolution(size):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 5, 6, 3)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(*size, 3, 4)), jnp.float32)
    np.testing.assert_allclose(
        convolve_windows(x, kernel), convolve(x, kernel), rtol=1e-5, atol=1e-5
    )
    with pytest.raises(UserError, match="at least 6x2 pixels"):
        convolve_windows(x, jnp.ones((6, 2, 3, 4)))


@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (2, 1), ((1, 2), ((0, 1), (2, 0)))])
def test_spreading_is_the_transpose_of_the_local_convolution(stride, padding):
    """`<convolve(x), y> = <x, spread(y)>` for all that they are given."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 7, 6, 3)).astype(np.float32)
    rows, columns = output_size((7, 6), 3, stride=stride, padding=padding)
    kernel = rng.normal(size=(rows, columns, 3, 3, 3, 4)).astype(np.float32)
    y = rng.normal(size=(2, rows, columns, 4)).astype(np.float32)
    forward = convolve_locally(x, kernel, stride=stride, padding=padding)
    back = spread_locally(y, kernel, (7, 6), stride=stride, padding=padding)
    assert back.shape == x.shape
    assert np.vdot(forward, y) == pytest.approx(np.vdot(x, back), abs=1e-2)


def test_what_is_spread_must_be_of_the_image():
    with pytest.raises(ValueError, match=r"expected \(1, 2, 1, 1\) for images of \(3, 2\), came"):
        spread_locally(jnp.ones((1, 2, 2, 1)), jnp.ones((2, 1, 2, 2, 1, 1)), (3, 2))
