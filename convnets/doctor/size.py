"""Is the network of a size that fits the images, the examples and the memory?"""

from ..benchmark.memory import available_bytes
from ..errors import UserError, first_line
from ..models import receptive_fields
from ..summary import summarize
from ..tables import format_count
from .finding import NOT_CHECKED, OK, Finding, judge

STATES = 4  # of each parameter: itself, its gradient, two averages of Adam


def check_size(model, dataset, *, batch_size: int = 64) -> list[Finding]:
    """Counts parameters, multiply-adds and memory, and how much of the image the last units see.

    Args:
      model, dataset: as in `fit`.
      batch_size: of the run.

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
    if hasattr(model, "backbone"):
        found.append(_check_field(model, dataset.image_shape))
    return found


def _check_field(model, image_shape):
    """How much of the image the units of the last endpoint see."""
    try:
        last = receptive_fields(model.backbone, image_shape)[-1]
    except UserError as error:
        return Finding("size", "receptive field", NOT_CHECKED, None, "", first_line(error))
    if last.size in (None, (1, 1)):  # or the image itself, all of which the head sees
        text = "the network sees the whole image"
        return Finding("size", "receptive field", OK, 100.0, "% of the image", text)
    sides = [min(field, side) for field, side in zip(last.size, image_shape)]
    share = max(seen / side for seen, side in zip(sides, image_shape))
    text = "the last endpoint sees {}x{} of {}x{} pixels".format(*sides, *image_shape[:2])
    advice = "Add layers or strides, or give it smaller images: it judges by small parts."
    verdict = judge(False, share < 0.25)
    return Finding("size", "receptive field", verdict, 100 * share, "% of the image", text, advice)
