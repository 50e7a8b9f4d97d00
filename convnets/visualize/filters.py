"""Many small images as one: filters, patches, reconstructions."""

import math
from functools import partial

import jax
import numpy as np
from flax.traverse_util import flatten_dict

from ..errors import UserError
from ..models.tracing import trace

SCALES = ("each", "all", "none")


def first_filters(model, variables, image_shape) -> np.ndarray:
    """The filters of the first convolution, ready for `plot_grid` and `fit_gabor`.

    Args:
      model, variables: of a classifier or a backbone.
      image_shape: `(H, W, C)` of its images.

    Returns: `[N, h, w, C]`.

    Raises: UserError for a network without a convolution.

    >>> from convnets import create_model
    >>> import jax
    >>> model, images = create_model("lenet5"), np.zeros((1, 28, 28, 1), np.float32)
    >>> variables = model.init(jax.random.key(0), images, train=False)
    >>> first_filters(model, variables, (28, 28, 1)).shape
    (6, 5, 5, 1)
    """
    images = jax.ShapeDtypeStruct((1, *image_shape), np.float32)
    calls, _ = trace(partial(model.apply, train=False), variables, images)
    params = flatten_dict(dict(variables["params"]), sep="/")
    kernels = (params.get(f"{path}/kernel") for path in calls)
    first = next((kernel for kernel in kernels if np.ndim(kernel) == 4), None)
    if first is None:
        raise UserError(f"there is no convolution in this {type(model).__name__}")
    return np.moveaxis(np.asarray(first), 3, 0)


def arrange_grid(images, *, columns: int | None = None, scale: str = "each", gap: int = 1):
    """Images beside each other in a grid, ready to be shown.

    Args:
      images: `[N, H, W, C]` of 1 or 3 channels, any numbers.
      columns: images in a row; None for a grid as square as can be.
      scale: `each` stretches every image so that 0 is gray and its largest absolute value black or
        white; `all` uses the largest of all images; `none` leaves images of [0, 1] as they are.
      gap: white pixels between images.

    Returns: float32 `[H', W', C]` in [0, 1].

    Raises: UserError for another rank, other channels, an unknown scale, no image, or no column.

    >>> arrange_grid(np.ones((5, 2, 2, 1)), columns=3).shape
    (5, 8, 1)
    """
    images = np.asarray(images, np.float32)
    if images.ndim != 4 or not images.size or images.shape[3] not in (1, 3):
        raise UserError(f"expected images [N, H, W, 1 or 3], came {images.shape}")
    if scale not in SCALES:
        raise UserError(f"scale is each, all or none, not {scale!r}")
    number, height, width, channels = images.shape
    columns = math.ceil(math.sqrt(number)) if columns is None else columns
    if columns < 1:
        raise UserError(f"at least 1 column, not {columns}")
    columns = min(columns, number)
    rows = -(-number // columns)
    if scale != "none":
        axes = (1, 2, 3) if scale == "each" else None
        largest = np.abs(images).max(axis=axes, keepdims=True)
        images = 0.5 + 0.5 * images / np.where(largest == 0, 1, largest)
    grid = np.ones((rows * (height + gap) - gap, columns * (width + gap) - gap, channels))
    for index, image in enumerate(images):
        top, left = (index // columns) * (height + gap), (index % columns) * (width + gap)
        grid[top : top + height, left : left + width] = image.clip(0, 1)
    return grid.astype(np.float32)


def plot_grid(images, *, title: str = "", **options):
    """`arrange_grid` as a matplotlib figure, a pixel of the images about a millimeter wide.

    Args:
      images: `[N, H, W, C]` of 1 or 3 channels.
      title: above the grid.
      options: of `arrange_grid`: `columns`, `scale`, `gap`.

    Raises: as `arrange_grid`.
    """
    import matplotlib.pyplot as plt

    grid = arrange_grid(images, **options)
    height, width = grid.shape[:2]
    scale = min(max(2.0 / width, 1 / 25), 10.0 / width, 10.0 / height)  # inches a pixel
    lines = title.splitlines() or [""]
    size = max(scale * width, min(10, 0.1 * max(map(len, lines)))), scale * height + 0.3
    figure, axes = plt.subplots(figsize=size, layout="constrained")
    axes.imshow(grid.squeeze(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_axis_off()
    axes.set_title(title)
    return figure


def plot_maps(maps, *, title: str = "", columns: int | None = None):
    """All channels of an activation map, `[H, W, C]`, as a matplotlib figure: 0 is gray."""
    maps = np.asarray(maps)
    if maps.ndim != 3:
        raise UserError(f"expected the maps of one image, [H, W, C], came {maps.shape}")
    return plot_grid(np.moveaxis(maps, 2, 0)[..., None], title=title, columns=columns)
