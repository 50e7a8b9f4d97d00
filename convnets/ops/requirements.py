"""What augmentations ask of their options and images, each answered by one clear error."""

import math
from collections.abc import Sequence

from ..errors import UserError


def require_not_negative(**options):
    """Raises ValueError for an option below zero, or that is no finite number.

    >>> require_not_negative(sigma=-1.0)
    Traceback (most recent call last):
    ValueError: sigma must not be negative, came -1.0
    """
    for name, value in options.items():
        if not value >= 0:
            raise ValueError(f"{name} must not be negative, came {value}")
        if value == math.inf:
            raise ValueError(f"{name} must be finite, came {value}")


def require_positive(**options):
    """Raises ValueError for an option that is not above zero, or infinite.

    >>> require_positive(alpha=0)
    Traceback (most recent call last):
    ValueError: alpha must be positive, came 0
    """
    for name, value in options.items():
        if not value > 0:
            raise ValueError(f"{name} must be positive, came {value}")
        if value == math.inf:
            raise ValueError(f"{name} must be finite, came {value}")


def require_between(low, high, **options):
    """Raises ValueError for an option outside of `low` to `high`.

    >>> require_between(0, 1, probability=1.5)
    Traceback (most recent call last):
    ValueError: probability must be in [0, 1], came 1.5
    """
    for name, value in options.items():
        if not low <= value <= high:
            raise ValueError(f"{name} must be in [{low:g}, {high:g}], came {value}")


def require_range(low, high, **options):
    """Raises ValueError for an option that is not a smallest and a largest number, both above `low`
    and neither above `high`.

    >>> require_range(0, 1, area=(0.5, 0.1))
    Traceback (most recent call last):
    ValueError: area must be two rising numbers in (0, 1], came (0.5, 0.1)
    """
    for name, value in options.items():
        pair = tuple(value) if isinstance(value, Sequence) else ()
        if not (len(pair) == 2 and low < pair[0] <= pair[1] <= high and pair[1] < math.inf):
            raise ValueError(
                f"{name} must be two rising numbers in ({low:g}, {high:g}], came {value}"
            )


def require_colors(name, image):
    """Raises UserError for an image `[H, W, C]` of other than three channels."""
    if image.shape[-1] != 3:
        raise UserError(f"{name} is for images of 3 channels, came {image.shape[-1]}")


def require_same_shape(name, image, partner):
    """Raises UserError for a partner of another shape than the image.

    >>> import jax.numpy as jnp
    >>> require_same_shape("mixup", jnp.ones((2, 3, 1)), jnp.ones((2, 4, 1)))
    Traceback (most recent call last):
    convnets.errors.UserError: mixup is of two images of one shape, came (2, 3, 1) and (2, 4, 1)
    """
    if image.shape != partner.shape:
        raise UserError(
            f"{name} is of two images of one shape, came {image.shape} and {partner.shape}"
        )
