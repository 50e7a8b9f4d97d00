"""Attacked images beside the images that they were."""

import jax
import numpy as np

from ..errors import UserError
from ..ops.image import to_float
from .victim import Classify


def plot_attacks(classify: Classify, images, attacks: dict, *, class_names=None, changes=False):
    """Images, and below each what attacks made of it, as a matplotlib figure.

    Above each stands the class that it is taken for, and how surely.

    Args:
      classify: `images -> logits`.
      images: `[B, H, W, C]`, uint8 or floats in [0, 1].
      attacks: name -> attacked images `[B, H, W, C]`; a row for each.
      class_names: None for the numbers of the classes.
      changes: whether to show below each attacked image what was changed, the largest change of the
        row black or white.

    Raises: UserError for images of another shape.
    """
    import matplotlib.pyplot as plt

    images = np.asarray(to_float(images))
    rows = {"images": images}
    for name, attacked in attacks.items():
        if np.shape(attacked) != images.shape:
            raise UserError(f"{name} {np.shape(attacked)} is not of the images {images.shape}")
        rows[name] = np.asarray(to_float(attacked))
    shown = len(rows) + (len(attacks) if changes else 0)
    size = (0.5 + 1.25 * len(images), 1.5 * shown)
    figure, axes = plt.subplots(
        shown, len(images), figsize=size, squeeze=False, layout="constrained"
    )
    places = iter(axes)
    for name, pictures in rows.items():
        probabilities = np.asarray(jax.nn.softmax(classify(pictures)))
        titles = []
        for found in probabilities:
            label = int(found.argmax())
            title = str(label) if class_names is None else class_names[label]
            titles.append(f"{title} ({100 * found.max():.0f} %)")
        _show(next(places), name, pictures, titles)
        if changes and name != "images":
            change = pictures - images
            largest = max(float(np.abs(change).max()), 1e-12)
            titles = [f"l2 {np.linalg.norm(each):.2f}" for each in change]
            _show(next(places), "change", 0.5 + 0.5 * change / largest, titles)
    return figure


def _show(row, name, pictures, titles):
    row[0].set_ylabel(name)
    for axes, picture, title in zip(row, pictures, titles):
        if picture.shape[2] not in (1, 3):
            picture = picture.mean(2, keepdims=True)
        shown = picture.squeeze().clip(0, 1)
        axes.imshow(shown, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_title(title, fontsize=9)
        axes.set(xticks=[], yticks=[])
