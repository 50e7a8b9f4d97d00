"""Local contrast normalization: subtractive, divisive, and the one after the other."""

import jax.numpy as jnp
import numpy as np

from .convolution import convolve, require_images
from .roots import safe_sqrt

# Below this a deviation is taken for rounding, of which no contrast is made.
FLOOR = 1e-4


def local_contrast_normalization(x, *, window=9, sigma=1.591, floor=FLOOR):
    """`divisive_normalization` of `subtractive_normalization`; arguments and errors as there.

    >>> local_contrast_normalization(jnp.full((1, 4, 4, 2), 3.0), window=3).max().item() < 1e-2
    True
    """
    x = subtractive_normalization(x, window=window, sigma=sigma)
    return divisive_normalization(x, window=window, sigma=sigma, floor=floor)


def subtractive_normalization(x, *, window=9, sigma=1.591):
    """Every value less the weighted mean around it, over all channels.

    `v_ijk = x_ijk - sum_pqc w_pq x_i+p,j+q,c`, with a Gaussian `w` whose weights sum to 1 over the
    window and all channels. At the edges the weights of the pixels that are there are scaled to
    the sum 1, so that a constant image becomes zero everywhere.

    Args:
      x: `[B, H, W, C]`, floats; half precision is normalized in float32.
      window: height and width of the Gaussian, odd.
      sigma: its standard deviation in pixels.

    Returns: the shape and dtype of `x`.

    Raises: TypeError for integers, ValueError for another rank, an even window or no deviation.

    Reference: Jarrett, Kavukcuoglu, Ranzato, LeCun 2009, "What is the best multi-stage architecture
    for object recognition?", section 2, N. Differs: the paper does not say how wide its Gaussian
    of 9x9 is, nor what it does at the edges.

    >>> subtractive_normalization(jnp.ones((1, 3, 3, 1)), window=3)[0, 0, 0].tolist()
    [0.0]
    """
    require_images(x, "subtractive_normalization")
    y = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return (y - _weighted_mean(y, window, sigma)).astype(x.dtype)


def divisive_normalization(x, *, window=9, sigma=1.591, floor=FLOOR):
    """Every value over the weighted deviation around it, or over the image's where that is larger.

    `y_ijk = v_ijk / max(c, s_ij)`, where `s_ij = sqrt(sum_pqc w_pq v_i+p,j+q,c ^ 2)` with the
    weights of `subtractive_normalization`, and `c` is the mean of `s` over the image.

    Args:
      floor: the least that is divided by; it keeps images without contrast, whose values are
        rounding, at their size. The gradient is finite everywhere.

    The other arguments, and the errors, are those of `subtractive_normalization`; its values are
    what is expected here.

    Reference: Jarrett et al. 2009, section 2, N. Differs: the floor.

    >>> divisive_normalization(jnp.full((1, 3, 3, 1), 5.0), window=3)[0, 1, 1].tolist()
    [1.0]
    """
    require_images(x, "divisive_normalization")
    y = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    deviation = safe_sqrt(_weighted_mean(y * y, window, sigma))
    divisor = jnp.maximum(deviation, deviation.mean((1, 2), keepdims=True))
    return (y / jnp.maximum(divisor, floor)).astype(x.dtype)


def gaussian_window(window: int, sigma: float) -> np.ndarray:
    """The weights `[window]` of a Gaussian of one axis, in float64, with the sum 1.

    Raises: ValueError for an even window, or a deviation that is not positive.

    >>> gaussian_window(3, 1.0).round(3).tolist()
    [0.274, 0.452, 0.274]
    """
    if window < 1 or window % 2 == 0 or sigma <= 0:
        raise ValueError(
            f"expected an odd window of at least 1 and a positive sigma, came {window}, {sigma}"
        )
    weights = np.exp(-((np.arange(window) - window // 2) ** 2) / (2 * sigma**2))
    return weights / weights.sum()


def _weighted_mean(x, window, sigma):
    """`[B, H, W, C] -> [B, H, W, 1]`; the Gaussian is taken over rows, then over columns."""
    weights = gaussian_window(window, sigma)
    mean = x.mean(3, keepdims=True)
    for axis in (1, 2):
        shape = (window, 1, 1, 1) if axis == 1 else (1, window, 1, 1)
        half = (window // 2, 0) if axis == 1 else (0, window // 2)
        kernel = jnp.asarray(weights.reshape(shape), x.dtype)
        inside = np.convolve(np.ones(x.shape[axis]), weights)[window // 2 :][: x.shape[axis]]
        shares = inside.reshape((1, -1, 1, 1) if axis == 1 else (1, 1, -1, 1))
        mean = convolve(mean, kernel, padding=half) / jnp.asarray(shares, x.dtype)
    return mean
