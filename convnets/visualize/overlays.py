"""Attributions beside the images that they are of."""

import numpy as np

from ..errors import UserError
from ..ops import image
from .attribution import heat
from .filters import arrange_grid


def plot_attributions(images, attributions, *, names=None):
    """Images, and what every method finds in them, as a matplotlib figure: a row for each image.

    Args:
      images: `[B, H, W, C]`, uint8, or floats in [0, 1].
      attributions: name of a method -> `[B, H, W, C]`, shown with 0 as gray, as `saliency`,
        `guided_backpropagation` and `deconvnet` give them; or `[B, H, W]`, shown over the image
        from blue (the smallest) to red (the largest), as `grad_cam`, `occlude` and `heat` do; or
        `IntegratedGradients`.
      names: of the images, such as their classes, `[B]`; None for none.

    Raises: UserError for attributions of another shape.
    """
    import matplotlib.pyplot as plt

    images = np.asarray(image.to_float(images)).clip(0, 1)
    attributions = {
        name: getattr(found, "attributions", found) for name, found in attributions.items()
    }
    if not attributions or (names is not None and len(names) != len(images)):
        raise UserError(
            f"at least one method and a name for each of {len(images)} images, came "
            f"{len(attributions)} and {'none' if names is None else len(names)}"
        )
    for name, found in attributions.items():
        if np.shape(found)[:3] != images.shape[:3]:
            raise UserError(f"{name} {np.shape(found)} is not of the images {images.shape}")
    columns = 1 + len(attributions)
    size = (1.9 * columns, 0.35 + 1.9 * len(images))
    figure, axes = plt.subplots(
        len(images), columns, figsize=size, squeeze=False, layout="constrained"
    )
    for row, picture in enumerate(images):
        _show(axes[row, 0], picture, "" if names is None else str(names[row]))
        for column, (name, found) in enumerate(attributions.items(), 1):
            found, title = np.asarray(found)[row], name if row == 0 else ""
            if found.ndim == 3:
                channels = found if found.shape[2] in (1, 3) else heat(found[None])[0, ..., None]
                _show(axes[row, column], arrange_grid(channels[None]), title)
            else:
                _show(axes[row, column], picture.mean(2, keepdims=True), title)
                axes[row, column].imshow(found, cmap="jet", alpha=0.5)
    return figure


def _show(axes, picture, title):
    if picture.shape[2] not in (1, 3):
        picture = picture.mean(2, keepdims=True)
    axes.imshow(picture.squeeze(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_title(title, fontsize=9)
    axes.set_axis_off()
