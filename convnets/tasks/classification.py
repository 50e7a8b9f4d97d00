"""Classification: its loss and its metrics, from images to a label each."""

from contextlib import nullcontext

import jax

from .. import layers, losses, metrics
from ..errors import UserError, unknown
from ..ops.image import Normalization, prepare

LOSSES = ("cross_entropy", "squared_error")
TOP = 5


def classification_loss(
    model,
    *,
    normalization: Normalization | None = None,
    augment=None,
    label_smoothing: float = 0.0,
    loss: str = "cross_entropy",
    auxiliary_weight: float = 0.3,
    freeze_batch_norm: bool = False,
):
    """The loss function of a classifier.

    Args:
      model: a `flax.linen.Module` from `[B, H, W, C]` images to `[B, K]` logits.
      normalization: of the data set; None leaves images in [0, 1].
      augment: `f(key, image) -> image` on one float image in [0, 1], in training only.
      label_smoothing: share of each target spread evenly over the classes.
      loss: `cross_entropy`, or `squared_error` against one-hot targets.
      auxiliary_weight: of the loss of each auxiliary head, in training, where the model has any
        (Szegedy et al. 2015, section 5); the metric `loss` is that of the logits alone.
      freeze_batch_norm: whether batch norm uses its running statistics in training too, and
        leaves them, for fine-tuning (He et al. 2015, appendix A); its scale and
        bias are trained as other parameters, and dropout stays on.

    Returns: `loss_fn(params, batch_stats, batch, key) -> (loss, (batch_stats, metrics))`. The batch
    has `image` (uint8, or floats in [0, 1]) and `label` `[B]`, and may have `weight` `[B]`, the
    weight of each example in the loss, and `mask` `[B]`, false for padding. With `key=None` it
    evaluates: running statistics, no augmentation, no dropout, no label smoothing. Metrics, over
    the examples of the mask: `loss`, `accuracy` and, with more than five classes, `top5_accuracy`.

    >>> import jax, convnets, jax.numpy as jnp
    >>> model = convnets.create_model("linear", num_classes=10)
    >>> batch = {"image": jnp.zeros((2, 8, 8, 1), jnp.uint8), "label": jnp.array([0, 1])}
    >>> params = model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)), train=False)["params"]
    >>> value, (_, metrics) = classification_loss(model)(params, {}, batch, None)
    >>> round(float(value), 3), int(metrics["accuracy"][1])
    (2.303, 2)
    """
    per_example = _targets(loss, label_smoothing)

    def loss_fn(params, batch_stats, batch, key):
        train = key is not None
        variables = {"params": params, **({"batch_stats": batch_stats} if batch_stats else {})}
        if train:
            augment_key, dropout_key = jax.random.split(key)
            images = prepare(batch["image"], normalization, augment, augment_key)
            mode = layers.switch_batch_norm(train=False) if freeze_batch_norm else nullcontext()
            with mode:
                logits, updates = model.apply(
                    variables,
                    images,
                    train=True,
                    mutable=["batch_stats", "auxiliary"],
                    rngs={"dropout": dropout_key},
                )
            batch_stats = updates.get("batch_stats", batch_stats)
        else:
            logits = model.apply(variables, prepare(batch["image"], normalization), train=False)
        labels, mask = batch["label"], batch.get("mask")
        values = per_example(logits, labels, train)
        auxiliary = [
            auxiliary_weight * per_example(logits, labels, train)
            for logits in (jax.tree.leaves(updates.get("auxiliary", {})) if train else [])
        ]
        weights = batch.get("weight")
        if mask is not None:
            weights = mask if weights is None else weights * mask
        measured = {
            "loss": metrics.mean_metric(values, mask),
            "accuracy": metrics.top_k_correct(logits, labels, 1, mask),
        }
        if logits.shape[-1] > TOP:
            measured[f"top{TOP}_accuracy"] = metrics.top_k_correct(logits, labels, TOP, mask)
        return losses.weighted_mean(sum(auxiliary, values), weights), (batch_stats, measured)

    return loss_fn


def _targets(loss: str, label_smoothing: float):
    """`(logits, labels, train) -> values [B]`."""
    if loss == "cross_entropy":

        def cross_entropy(logits, labels, train):
            smoothing = label_smoothing if train else 0.0
            return losses.softmax_cross_entropy(logits, labels, label_smoothing=smoothing)

        return cross_entropy
    if loss == "squared_error":
        if label_smoothing:
            raise UserError("label smoothing is for cross_entropy, not for squared_error")
        return lambda logits, labels, train: losses.squared_error(
            logits, losses.one_hot(labels, logits.shape[-1])
        )
    raise unknown("loss", loss, LOSSES)
