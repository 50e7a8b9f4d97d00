"""Convolution and its two gradients in JAX's own operations: the lowering that needs no library.

On the CPU XLA's convolution is slow for some shapes, above all in the gradient of a kernel, where
matrix products are fast. `PLAIN` takes for each pass what was faster on the shapes of ResNet-50.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec


def convolve(x, kernel, *, window):
    """One convolution of XLA's."""
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=window.stride,
        padding=window.padding,
        rhs_dilation=window.dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=window.groups,
    )


def input_gradient(gradient, kernel, *, size, window):
    """The transpose of `convolve` by a kernel, as JAX derives it."""
    shape = gradient.shape[0], *size, kernel.shape[2] * window.groups
    x = jax.typeof(gradient).update(shape=shape)  # which also varies over devices as it does
    return jax.linear_transpose(lambda x: convolve(x, kernel, window=window), x)(gradient)[0]


def kernel_gradient(x, gradient, *, size, window):
    """The transpose of `convolve` of an image, as JAX derives it."""
    shape = *size, x.shape[3] // window.groups, gradient.shape[3]
    kernel = unsharded(jax.typeof(gradient)).update(shape=shape)
    return jax.linear_transpose(lambda k: convolve(x, k, window=window), kernel)(gradient)[0]


def unsharded(aval):
    """The type of an array that is whole on every device of an explicit mesh."""
    whole = PartitionSpec(*[None] * aval.ndim)
    return aval.update(sharding=aval.sharding.update(spec=whole))


def kernel_gradient_by_products(x, gradient, *, size, window):
    """A matrix product for each tap of the kernel: the pixels it saw, times the gradient there."""
    x = jnp.pad(x, ((0, 0), *window.padding, (0, 0)))
    rows = gradient.reshape(-1, gradient.shape[3])
    taps = [
        _product_over_rows(_seen_by(x, tap, gradient.shape[1:3], window), rows)
        for tap in np.ndindex(size)
    ]
    return jnp.stack(taps).reshape(*size, x.shape[3], gradient.shape[3])


def _seen_by(x, tap, output, window):
    """The pixels that one tap of the kernel meets, one row each."""
    slices = [
        slice(t * d, t * d + (n - 1) * s + 1, s)
        for t, d, n, s in zip(tap, window.dilation, output, window.stride)
    ]
    return x[:, slices[0], slices[1]].reshape(-1, x.shape[3])


def _product_over_rows(a, b):
    return lax.dot_general(a, b, (((0,), (0,)), ((), ())))


def fastest_kernel_gradient(x, gradient, *, size, window):
    """By matrix products for 1x1 kernels, but those that make few channels of many; else by XLA."""
    channels, features = x.shape[3], gradient.shape[3]
    suited = min(channels, features) >= 32 and (channels <= 256 or features >= channels)
    if window.groups == 1 and size == (1, 1) and suited:
        return kernel_gradient_by_products(x, gradient, size=size, window=window)
    return kernel_gradient(x, gradient, size=size, window=window)


XLA = {"forward": convolve, "input_gradient": input_gradient, "kernel_gradient": kernel_gradient}
PLAIN = {**XLA, "kernel_gradient": fastest_kernel_gradient}
