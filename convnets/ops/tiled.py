"""Tiled convolution: kernels that neighbors do not share, but pixels a period apart do."""

import jax.numpy as jnp

from .convolution import as_padding, as_pair, convolve, output_size, require_images


def convolve_tiled(x, kernel, *, stride=1, padding=0):
    """A convolution whose kernel changes from pixel to pixel and comes back after a period.

    The pixel `(i, j)` of the result has the kernel `(i mod k, j mod k)`. With a period of 1 it is
    a convolution, with one as large as the result a locally connected layer.

    Args:
      x: `[B, H, W, C]`, floats.
      kernel: `[k, k, kernel H, kernel W, C, features]`, of the dtype of `x`.
      stride: an int, or one for each of H and W.
      padding: pixels of zeros on each side: an int, `(H, W)` or `((top, bottom), (left, right))`.

    Returns: `[B, H', W', features]` in the dtype of `x`; `H', W'` as `output_size` gives them.

    Raises: TypeError for integers and mixed dtypes, ValueError for shapes that do not fit,
      UserError for images smaller than the kernel.

    Reference: Le, Ngiam, Chen, Chia, Koh, Ng 2010, "Tiled convolutional neural networks",
    section 3.

    >>> convolve_tiled(jnp.ones((1, 6, 6, 1)), jnp.ones((2, 2, 3, 3, 1, 4))).shape
    (1, 4, 4, 4)
    """
    require_images(x, "convolve_tiled")
    if kernel.ndim != 6 or kernel.shape[0] != kernel.shape[1] or kernel.shape[4] != x.shape[3]:
        raise ValueError(
            "convolve_tiled: expected a kernel [k, k, kernel H, kernel W, C, features] with "
            f"{x.shape[3]} channels for an image {x.shape}, came {kernel.shape}"
        )
    strides, period = as_pair(stride), kernel.shape[0]
    rows, columns = output_size(x.shape[1:3], kernel.shape[2:4], stride=strides, padding=padding)
    x = jnp.pad(x, ((0, 0), *as_padding(padding), (0, 0)))
    tiles = [
        [_tile(x, kernel[i, j], (i, j), strides, period, (rows, columns)) for j in range(period)]
        for i in range(period)
    ]
    # [B, tiles H, k, tiles W, k, features], of which the last tiles may reach too far.
    y = jnp.stack([jnp.stack(row, 3) for row in tiles], 2)
    y = y.reshape(y.shape[0], y.shape[1] * period, y.shape[3] * period, y.shape[5])
    return y[:, :rows, :columns]


def _tile(x, kernel, first, strides, period, outputs):
    """The pixels that one kernel computes: the first of them, and every period-th from there."""
    edges = [(0, 0)]
    for size, length, start, stride, output in zip(
        x.shape[1:3], kernel.shape[:2], first, strides, outputs
    ):
        last = (-(-output // period) - 1) * period + start
        edges.append((0, max(last * stride + length - size, 0)))
    x = jnp.pad(x, (*edges, (0, 0)))[:, first[0] * strides[0] :, first[1] * strides[1] :]
    y = convolve(x, kernel, stride=tuple(period * stride for stride in strides))
    return y[:, : -(-outputs[0] // period), : -(-outputs[1] // period)]
