"""Local response normalization."""

import jax.numpy as jnp
from jax import lax

from .convolution import require_floats


def local_response_normalization(x, *, size=5, alpha=1e-4, beta=0.75, k=2.0):
    """Every channel divided by the activity of its neighbors at the same pixel.

    `y_i = x_i / (k + alpha * sum_j x_j^2) ^ beta`, the sum over the `size` channels around `i`
    (`i - size // 2` to `i + (size - 1) // 2`), as many of them as there are.

    Args:
      x: `[…, C]`, floats; half precision is normalized in float32.

    Returns: the shape and dtype of `x`.

    Reference: Krizhevsky, Sutskever, Hinton 2012, section 3.3, whose constants are the defaults.

    Differs: PyTorch and Caffe divide alpha by `size`: their `alpha=5e-4, size=5` is
    `alpha=1e-4` here. Their k is 1 unless given.

    >>> local_response_normalization(jnp.ones((1, 3)), size=3, alpha=1.0, beta=1.0, k=0.0).tolist()
    [[0.5, 0.3333333432674408, 0.5]]
    """
    require_floats(x, "local_response_normalization")
    y = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    channels = x.shape[-1]
    edges = [(0, 0, 0)] * (x.ndim - 1) + [(size // 2, (size - 1) // 2, 0)]
    squares = lax.pad(y * y, jnp.zeros((), y.dtype), edges)
    # A sum of shifted slices: XLA fuses it with the power, and its gradient is of the same form.
    total = sum(lax.slice_in_dim(squares, i, i + channels, axis=-1) for i in range(size))
    return (y / (k + alpha * total) ** beta).astype(x.dtype)
