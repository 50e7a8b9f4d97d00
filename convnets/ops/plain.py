"""Convolution and its two gradients in JAX's own operations."""

import jax
from jax import lax


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
    shape = gradient.shape[0], *size, kernel.shape[2] * window.groups
    x = jax.typeof(gradient).update(shape=shape)  # which also varies over devices as it does
    return jax.linear_transpose(lambda x: convolve(x, kernel, window=window), x)(gradient)[0]


def kernel_gradient(x, gradient, *, size, window):
    shape = *size, x.shape[3] // window.groups, gradient.shape[3]
    kernel = jax.typeof(gradient).update(shape=shape)
    return jax.linear_transpose(lambda k: convolve(x, k, window=window), kernel)(gradient)[0]


XLA = {"forward": convolve, "input_gradient": input_gradient, "kernel_gradient": kernel_gradient}
PLAIN = dict(XLA)
