"""How many images of a set are right as they are, and how many under attack."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from .. import metrics
from ..data import Source, evaluation_batches
from ..errors import UserError
from ..ops.image import to_float
from .victim import Classify

Attack = Callable[..., jax.Array]


def attacked_metrics(classify: Classify, attack: Attack, batch: dict, keys) -> dict:
    """Of one batch, as `(sum, count)` pairs: `accuracy`, `robust_accuracy`, and `l2_norm`, the
    mean one of the changes.

    Args:
      classify: `images -> logits`.
      attack: `(classify, images, labels, keys) -> images`, as `partial(fast_gradient_sign,
        epsilon=0.25)`.
      batch: `image [B, H, W, C]`, `label [B]`, and `mask [B]`, false for padding.
      keys: one an image, `[B]`.
    """
    images, labels, mask = batch["image"], batch["label"], batch.get("mask")
    attacked = attack(classify, images, labels, keys)
    change = attacked - to_float(images)
    return {
        "accuracy": metrics.top_k_correct(classify(images), labels, 1, mask),
        "robust_accuracy": metrics.top_k_correct(classify(attacked), labels, 1, mask),
        "l2_norm": metrics.mean_metric(jnp.sqrt(jnp.square(change).sum((1, 2, 3))), mask),
    }


def robust_accuracy(
    classify: Classify, attack: Attack, source: Source, *, batch_size: int = 256, seed: int = 0
) -> dict:
    """The same over a whole source, read a batch at a time; every example counts once.

    An attack along the gradient does not move an image whose loss is 0 in float32, as where logits
    are huge: such an image counts as robust.

    Args:
      classify, attack: as in `attacked_metrics`.
      source: such as `dataset.test`.
      batch_size: images attacked at a time; what is drawn at random does not depend on it.
      seed: of what the attack draws.

    Returns: `{"accuracy": …, "robust_accuracy": …, "l2_norm": …, "examples": …}`.

    Raises: UserError for a source without examples.
    """
    if not len(source):
        raise UserError("there are no examples to attack")
    key = jax.random.key(seed)

    @jax.jit
    def measure(batch, start):
        places = start + jnp.arange(len(batch["label"]))
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, places)
        return attacked_metrics(classify, attack, batch, keys)

    totals = None
    for number, batch in enumerate(evaluation_batches(source, min(batch_size, len(source)))):
        found = metrics.to_host(measure(batch, number * len(batch["label"])))
        totals = found if totals is None else metrics.add(totals, found)
    return {**metrics.finish(totals), "examples": int(totals["accuracy"][1])}
