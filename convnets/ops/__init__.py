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
from .probabilistic_pooling import (
    log_block_partition,
    probabilistic_max_pool,
    sample_probabilistic_max_pool,
)
from .roots import safe_sqrt
from .switches import max_pool_with_switches, unpool
from .tiled import convolve_tiled
from .transposed import convolve_transposed
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
    "convolve_tiled",
    "convolve_transposed",
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
    "log_block_partition",
    "lowering",
    "max_pool",
    "max_pool_with_switches",
    "output_size",
    "prepare",
    "probabilistic_max_pool",
    "random_crop_with_padding",
    "requested_lowering",
    "rotate",
    "rotate_image",
    "safe_sqrt",
    "sample_bilinear",
    "sample_probabilistic_max_pool",
    "spread_locally",
    "subtractive_normalization",
    "sum_pool",
    "to_float",
    "translate",
    "unpool",
]
