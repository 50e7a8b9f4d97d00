"""Pure functions of arrays: what layers, losses and models are made of."""

from .contrast import (
    divisive_normalization,
    local_contrast_normalization,
    subtractive_normalization,
)
from .convolution import convolve, output_size
from .fusion import fuse_convolutions
from .image import (
    AUGMENTATIONS,
    Normalization,
    compose,
    flip_horizontal,
    prepare,
    random_crop_with_padding,
    rotate,
    to_float,
    translate,
)
from .local import convolve_locally, convolve_windows, spread_locally
from .local_response import local_response_normalization
from .lowerings import LOWERINGS, current_lowering, lowering, requested_lowering
from .pooling import (
    adaptive_average_pool,
    adaptive_max_pool,
    average_pool,
    global_average_and_max_pool,
    global_average_pool,
    global_l2_pool,
    global_max_pool,
    l2_pool,
    max_pool,
    sum_pool,
)
from .roots import safe_sqrt
from .warping import rotate_image, sample_bilinear

__all__ = [
    "AUGMENTATIONS",
    "LOWERINGS",
    "Normalization",
    "adaptive_average_pool",
    "adaptive_max_pool",
    "average_pool",
    "compose",
    "convolve",
    "convolve_locally",
    "convolve_windows",
    "current_lowering",
    "divisive_normalization",
    "flip_horizontal",
    "fuse_convolutions",
    "global_average_and_max_pool",
    "global_average_pool",
    "global_l2_pool",
    "global_max_pool",
    "l2_pool",
    "local_contrast_normalization",
    "local_response_normalization",
    "lowering",
    "max_pool",
    "output_size",
    "prepare",
    "random_crop_with_padding",
    "requested_lowering",
    "rotate",
    "rotate_image",
    "safe_sqrt",
    "sample_bilinear",
    "spread_locally",
    "subtractive_normalization",
    "sum_pool",
    "to_float",
    "translate",
]
