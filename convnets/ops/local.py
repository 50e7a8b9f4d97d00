"""Convolutions as products of matrices with windows: unshared ones, and ones of wide kernels."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from ..errors import UserError
from .bands import gather_rows
from .convolution import as_padding, as_pair, output_size, require_images


def convolve_locally(x, kernel, *, stride=1, padding=0):
    """Each pixel of the result is the product of its own kernel and the window that it sees.

    The windows are cut out and multiplied with the kernels in one product of matrices for each
    pixel: memory is `kernel H * kernel W * C` values for each pixel of the result.

    Args:
      x: `[B, H, W, C]`, floats.
      kernel: `[H', W', kernel H, kernel W, C, features]`, of the dtype of `x`.
      stride: an int, or one for each of H and W.
      padding: pixels of zeros on each side: an int, `(H, W)` or `((top, bottom), (left, right))`.

    Returns: `[B, H', W', features]` in the dtype of `x`; `H', W'` as `output_size` gives them.

    Raises: TypeError for integers and mixed dtypes, ValueError for shapes that do not fit,
      UserError for images of a size for which the kernels are not made.

    >>> convolve_locally(jnp.ones((1, 5, 5, 1)), jnp.ones((2, 2, 3, 3, 1, 4)), stride=2).shape
    (1, 2, 2, 4)
    """
    require_images(x, "convolve_locally")
    if x.dtype != kernel.dtype:
        raise TypeError(f"convolve_locally: the image is {x.dtype} but the kernel {kernel.dtype}")
    if kernel.ndim != 6 or kernel.shape[4] != x.shape[3]:
        raise ValueError(
            "convolve_locally: expected a kernel [H', W', kernel H, kernel W, C, features] with "
            f"{x.shape[3]} channels for an image {x.shape}, came {kernel.shape}"
        )
    size, (strides, pads) = kernel.shape[2:4], (as_pair(stride), as_padding(padding))
    rows, columns = output_size(x.shape[1:3], size, stride=strides, padding=pads)
    if kernel.shape[:2] != (rows, columns):
        raise UserError(
            f"an image of {x.shape[1]}x{x.shape[2]} pixels makes {rows}x{columns} pixels, but "
            f"there are kernels for {kernel.shape[0]}x{kernel.shape[1]}: nothing is shared between "
            "pixels, so images keep one size"
        )
    x = jnp.pad(gather_rows(x), ((0, 0), *pads, (0, 0)))
    x = _windows(x, 1, size[0], strides[0], rows)  # [B, H', kernel H, W, C]
    x = _windows(x, 3, size[1], strides[1], columns)  # [B, H', kernel H, W', kernel W, C]
    return jnp.einsum("bhiwjc,hwijcf->bhwf", x, kernel)


def spread_locally(y, kernel, size, *, stride=1, padding=0):
    """The transpose of `convolve_locally` by an image: each pixel is spread over the window that it
    sees, by its own kernel, and what windows have in common is added up.

    Args:
      y: `[B, H', W', features]`, floats.
      kernel: `[H', W', kernel H, kernel W, C, features]`, of the dtype of `y`.
      size: `(H, W)` of the image.
      stride, padding: those of `convolve_locally`.

    Returns: `[B, H, W, C]` in the dtype of `y`.

    Raises: as `convolve_locally` of such an image, and ValueError where `y` is no result of it.

    >>> spread_locally(jnp.ones((1, 2, 1, 1)), jnp.ones((2, 1, 2, 2, 1, 1)), (3, 2))[0, :, :, 0]
    Array([[1., 1.],
           [2., 2.],
           [1., 1.]], dtype=float32)
    """
    require_images(y, "spread_locally")
    shape = (y.shape[0], *as_pair(size), kernel.shape[4])
    image = jax.lax.full_like(y, 0, shape=shape)  # which varies over devices as y does
    convolve = partial(convolve_locally, kernel=kernel, stride=stride, padding=padding)
    made = jax.eval_shape(convolve, image).shape
    if y.shape != made:
        raise ValueError(
            f"spread_locally: expected {made} for images of {image.shape[1:3]}, came {y.shape}"
        )
    return jax.linear_transpose(convolve, image)(y)[0]


def convolve_windows(x, kernel):
    """The convolution without padding at stride 1, as one product of its windows and the kernel.

    For kernels that are dense layers, of many megabytes, over maps of few pixels: they are read
    once and as they lie, where `convolve` may lay them out anew in every call. Memory is `kernel H
    * kernel W * C` values for each pixel of the result.

    Args:
      x: `[B, H, W, C]`, floats.
      kernel: `[kernel H, kernel W, C, features]`, of the dtype of `x`.

    Returns: `[B, H', W', features]` in the dtype of `x`.

    Raises: TypeError for integers, UserError for images smaller than the kernel.

    >>> convolve_windows(jnp.ones((1, 5, 5, 1)), jnp.ones((3, 2, 1, 4))).shape
    (1, 3, 4, 4)
    """
    require_images(x, "convolve_windows")
    rows, columns = output_size(x.shape[1:3], kernel.shape[:2])
    x = _windows(x, 1, kernel.shape[0], 1, rows)  # [B, H', kernel H, W, C]
    x = _windows(x, 3, kernel.shape[1], 1, columns)  # [B, H', kernel H, W', kernel W, C]
    return jnp.einsum("bhiwjc,ijcf->bhwf", x, kernel)


def _windows(x, axis, length, stride, count):
    """The windows of one axis in its place, and their pixels in a new axis behind it."""
    slices = [
        lax.slice_in_dim(x, first, first + (count - 1) * stride + 1, stride, axis)
        for first in range(length)
    ]
    return jnp.stack(slices, axis + 1)
