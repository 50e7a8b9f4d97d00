"""Predictions of a trained model, without anything of its training."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax.errors import ScopeParamShapeError

from . import ops
from .errors import UserError, first_line
from .ops import image
from .tasks import average_views
from .training import evaluation
from .training.state import TrainState


def predict(model, state: TrainState, images, *, batch_size: int = 256, views=None) -> np.ndarray:
    """Class probabilities of images.

    Args:
      model: the model that was trained.
      state: its state; moving averages are used where it keeps them, and its normalization.
      images: `[N, H, W, C]`, uint8, or floats in [0, 1].
      batch_size: images computed at a time.
      views: `f(images [B, H, W, C]) -> [V, B, H, W, C]`, as `ops.image.flip_views` or a partial of
        `ops.image.ten_crop`: probabilities are averaged over the views of each image.

    Returns: float32 `[N, K]`, on the host.

    Raises: ValueError for images of another rank, shape or range than the model's, or none.
    """
    images = np.asarray(images)
    if images.ndim != 4 or not len(images):
        raise ValueError(f"expected images [N, H, W, C], came shape {images.shape}")
    if batch_size < 1:
        raise ValueError(f"the batch size is at least 1, not {batch_size}")
    fractions = np.issubdtype(images.dtype, np.floating) and 0 <= images.min() <= images.max() <= 1
    if images.dtype != np.uint8 and not fractions:
        raise ValueError(
            f"expected uint8 images, or floats in [0, 1]; came {images.dtype} from {images.min()} "
            f"to {images.max()}"
        )

    variables = {name: tree for name, tree in state.variables().items() if tree}
    batch_size = min(batch_size, len(images))
    rows = []
    try:
        for start in range(0, len(images), batch_size):
            part = evaluation.pad_batch({"image": images[start : start + batch_size]}, batch_size)
            rows.append(_probabilities(model, variables, state.normalization, views, part["image"]))
    except ScopeParamShapeError as error:
        raise UserError(
            f"images {images.shape} are not of the shape that the model was trained with: "
            f"{first_line(error)}"
        ) from None
    return np.concatenate(rows)[: len(images)]


@partial(jax.jit, static_argnums=(0, 3))
def _probabilities(model, variables, normalization, views, images):
    apply = partial(ops.fuse_convolutions(partial(model.apply, train=False)), variables)
    images = image.prepare(images, normalization)
    logits = apply(images) if views is None else average_views(apply, views(images))
    return jax.nn.softmax(logits.astype(jnp.float32))
