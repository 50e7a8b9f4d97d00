"""What `convolve_locally` refuses; its numbers are tested with the layer."""

import jax.numpy as jnp
import pytest

from convnets.errors import UserError
from convnets.ops import convolve_locally


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
