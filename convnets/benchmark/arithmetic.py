"""Arithmetic: what a workload asks for, and what the machine can do at its best."""

import time

import jax
import jax.numpy as jnp
import numpy as np

from ..parallel.compilation import compiler_options
from ..summary import summarize
from .workloads import Workload, make_model

SIDES = {"cpu": 2048}  # of the square matrices that show the peak
SIDE = 8192  # on accelerators
PRODUCTS = 5


def count_flops(workload: Workload) -> int:
    """Floating-point operations that one step asks for, whoever does it.

    Two for each multiply-add of the convolutions and matrix products, windows in full. A step of
    training counts as three passes forward, for the gradients of inputs and of kernels cost as much
    each, less the gradient of the images, which nobody needs.

    >>> count_flops(Workload("linear", 2, (28, 28, 1), "infer"))
    31360
    """
    summary = summarize(make_model(workload), workload.image_shape)
    per_image = 2 * summary.multiply_adds
    if workload.mode == "train":
        first = next(layer for layer in summary.layers if layer.multiply_adds)
        per_image = 3 * per_image - 2 * first.multiply_adds
    return workload.batch_size * per_image


def measure_peak(precision: str) -> float:
    """FLOP/s of a large matrix product in a precision, the fastest of several, on one device.

    It is XLA's product, at its default precision; a library may be faster at half precision.
    """
    platform = jax.default_backend()
    side = SIDES.get(platform, SIDE)
    product = jax.jit(jnp.matmul, compiler_options=compiler_options(platform))
    values = np.random.default_rng(0).standard_normal((side, side), np.float32)
    matrix = jnp.asarray(values, precision)
    product(matrix, matrix).block_until_ready()
    fastest = float("inf")
    for _ in range(PRODUCTS):
        begin = time.perf_counter()
        product(matrix, matrix).block_until_ready()
        fastest = min(fastest, time.perf_counter() - begin)
    return 2 * side**3 / fastest
