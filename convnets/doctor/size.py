"""Is the network of a size that fits the images, the examples and the memory?"""

import jax
import jax.numpy as jnp
import numpy as np

from ..benchmark.memory import available_bytes
from ..summary import summarize
from ..tables import format_count
from .finding import NOT_CHECKED, Finding, judge

STATES = 4  # of each parameter: itself, its gradient, two averages of Adam


def check_size(model, dataset, *, batch_size: int = 64, field: bool = True) -> list[Finding]:
    """Counts parameters, multiply-adds and memory, and measures what the last pixel sees.

    Args:
      model, dataset: as in `fit`.
      batch_size: of the run.
      field: whether to measure the receptive field, which compiles the backbone once.

    Returns: findings on `memory` and `receptive field`.
    """
    summary = summarize(model, dataset.image_shape)
    needed = 4 * STATES * summary.parameters + batch_size * summary.activation_bytes
    share = needed / available_bytes()
    text = (
        f"{format_count(summary.parameters)} parameters, {format_count(summary.multiply_adds)} "
        f"multiply-adds an image, {format_count(needed)}B for a step of {batch_size} images"
    )
    advice = "Take smaller batches with accumulate, a smaller network, or several devices."
    verdict = judge(share > 1, share > 0.8)
    found = [Finding("size", "memory", verdict, 100 * share, "% of memory", text, advice)]
    if field and hasattr(model, "backbone"):
        found.append(_check_field(model, dataset.image_shape))
    return found


def _check_field(model, image_shape):
    """The pixels of the image that the middle pixel of the last endpoint depends on."""
    height, width, _ = image_shape
    images = np.random.default_rng(0).standard_normal((4, *image_shape)).astype(np.float32)
    backbone = model.backbone

    @jax.jit
    def middle(key, images):
        variables = backbone.init(key, images, train=False)

        def value(images):
            last = list(backbone.apply(variables, images, train=False).values())[-1]
            if last.ndim != 4:
                return jnp.zeros(())
            return last[:, last.shape[1] // 2, last.shape[2] // 2].sum()

        return jax.grad(value)(images)

    seen = np.abs(np.asarray(middle(jax.random.key(0), images))).max((0, 3)) > 0
    if not seen.any():
        text = "the last endpoint is no image"
        return Finding("size", "receptive field", NOT_CHECKED, None, "", text)
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    sides = int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1
    share = max(sides[0] / height, sides[1] / width)
    text = f"the last endpoint sees {sides[0]}x{sides[1]} of {height}x{width} pixels"
    advice = "Add layers or strides, or give it smaller images: it judges by small parts."
    verdict = judge(False, share < 0.25)
    return Finding("size", "receptive field", verdict, 100 * share, "% of the image", text, advice)
