"""The transpose of a convolution, which makes images larger."""

from functools import partial

from .bands import on_whole_maps
from .convolution import as_padding, as_pair, output_size, require_images
from .lowerings import requested_lowering
from .primitives import Window, convolution_input_gradient


def convolve_transposed(x, kernel, *, stride=1, padding=0, output_padding=0, dilation=1, groups=1):
    """What a convolution by the kernel has for its input gradient: every pixel of `x` adds the
    kernel, times its value, to the pixels that it would have been computed from.

    Args:
      x: `[B, H, W, C]`, floats.
      kernel: `[kernel H, kernel W, features / groups, C]`, of the dtype of `x`: that of the
        convolution which leads from `features` channels to `C`.
      stride, padding, dilation, groups: of that convolution; padding is cut off the result.
      output_padding: rows and columns more at the bottom and to the right, an int or `(H, W)`,
        less than the stride: a convolution with a stride makes one size of several.

    Returns: `[B, H', W', features]` with `H' = (H - 1) * stride - padding + reach +
      output_padding`, padding of both sides together.

    Raises: TypeError for integers and mixed dtypes, ValueError for shapes that do not fit.

    Reference: Zeiler, Krishnan, Taylor, Fergus 2010, "Deconvolutional networks"; Dumoulin, Visin
    2016, "A guide to convolution arithmetic for deep learning", chapter 4.

    >>> import jax.numpy as jnp
    >>> convolve_transposed(jnp.ones((1, 3, 3, 4)), jnp.ones((2, 2, 1, 4)), stride=2).shape
    (1, 6, 6, 1)
    """
    require_images(x, "convolve_transposed")
    if x.dtype != kernel.dtype:
        raise TypeError(f"convolve_transposed: the image is {x.dtype}, the kernel {kernel.dtype}")
    if kernel.ndim != 4 or kernel.shape[3] != x.shape[3]:
        raise ValueError(
            f"convolve_transposed: expected a kernel [H, W, features / groups, {x.shape[3]}] for "
            f"an image {x.shape}, came {kernel.shape}"
        )
    if groups < 1 or x.shape[3] % groups:
        raise ValueError(f"{groups} groups do not divide the channels of {x.shape}")
    strides, dilations, pads = as_pair(stride), as_pair(dilation), as_padding(padding)
    extra = as_pair(output_padding)
    if not all(0 <= more < max(s, d) for more, s, d in zip(extra, strides, dilations)):
        raise ValueError(f"output_padding {extra} must be less than the stride {strides}")
    size = tuple(
        (n - 1) * s - sum(sides) + (k - 1) * d + 1 + more
        for n, s, sides, k, d, more in zip(
            x.shape[1:3], strides, pads, kernel.shape, dilations, extra
        )
    )
    if min(size) < 1:
        raise ValueError(f"padding {pads} leaves nothing of the {size[0]}x{size[1]} pixels")
    back = output_size(size, kernel.shape[:2], stride=strides, padding=pads, dilation=dilations)
    if back != x.shape[1:3]:
        raise ValueError(f"output_padding {extra} must be less than the stride {strides}")
    window = Window(strides, pads, dilations, groups)
    options = {"size": size, "window": window, "lowering": requested_lowering()}
    return on_whole_maps(partial(convolution_input_gradient, **options), x, kernel)
