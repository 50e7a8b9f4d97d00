"""Classification: its loss and its metrics, from images to a label each."""

from contextlib import nullcontext
from functools import partial

import jax
import jax.numpy as jnp

from .. import layers, losses, metrics
from ..errors import UserError, unknown
from ..ops import image
from ..ops.image import Normalization

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
    mix=None,
    views=None,
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
      mix: `f(key, image, partner) -> (image, share)`, as `ops.image.mixup`, in training only, after
        `augment`: each image is mixed with its neighbor in the batch, and so are their targets.
        A neighbor of weight 0, or outside of the mask, has no part; an example keeps its own
        weight. Accuracy is measured against the example's own label.
      views: `f(images) -> [V, B, H, W, C]`, as `ops.image.flip_views`, in evaluation only: the
        probabilities are those of all views, averaged.
      freeze_batch_norm: whether batch norm uses its running statistics in training too, and
        leaves them, for fine-tuning (He et al. 2015, appendix A); its scale and bias are trained as
        other parameters, and dropout stays on.

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
    per_example = _per_example(loss, label_smoothing)
    if views is not None and loss != "cross_entropy":
        raise UserError(f"views are averaged as probabilities, which {loss} has none of")

    def loss_fn(params, batch_stats, batch, key):
        train = key is not None
        labels, mask = batch["label"], batch.get("mask")
        targets, weights = labels, _weights(batch)
        variables = {"params": params, **({"batch_stats": batch_stats} if batch_stats else {})}
        if train:
            augment_key, dropout_key, mix_key = jax.random.split(key, 3)
            images = image.prepare(batch["image"], None, augment, augment_key)
            if mix is not None:
                images, targets = _mix(mix, mix_key, images, labels, weights)
            images = image.normalize(images, normalization)
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
            apply = partial(model.apply, variables, train=False)
            images = image.prepare(batch["image"], normalization)
            logits = apply(images) if views is None else average_views(apply, views(images))
        values = per_example(logits, targets, train)
        auxiliary = [
            auxiliary_weight * per_example(logits, targets, train)
            for logits in (jax.tree.leaves(updates.get("auxiliary", {})) if train else [])
        ]
        measured = {
            "loss": metrics.mean_metric(values, mask),
            "accuracy": metrics.top_k_correct(logits, labels, 1, mask),
        }
        if logits.shape[-1] > TOP:
            measured[f"top{TOP}_accuracy"] = metrics.top_k_correct(logits, labels, TOP, mask)
        return losses.weighted_mean(sum(auxiliary, values), weights), (batch_stats, measured)

    return loss_fn


def average_views(apply, images):
    """The logarithms of class probabilities, averaged over several views of each image.

    Args:
      apply: `images [N, H, W, C] -> logits [N, K]`.
      images: `[V, B, H, W, C]`.

    Returns: `[B, K]`, float32; logits whose softmax is the averaged probabilities.

    Reference: Krizhevsky, Sutskever, Hinton 2012, section 4.1.

    >>> views = jnp.array([[1.0], [3.0]]).reshape(2, 1, 1, 1, 1)
    >>> apply = lambda images: jnp.log(jnp.concatenate([images, 4 - images], -1))[:, 0, 0]
    >>> jnp.exp(average_views(apply, views)).tolist()
    [[0.5, 0.5]]
    """
    logits = apply(images.reshape(-1, *images.shape[2:])).astype(jnp.float32)
    every = jax.nn.log_softmax(logits.reshape(*images.shape[:2], -1))
    return jax.nn.logsumexp(every, axis=0) - jnp.log(len(images))


def _weights(batch):
    """Of each example in the loss; None where all count alike."""
    weights, mask = batch.get("weight"), batch.get("mask")
    if mask is None:
        return weights
    return mask if weights is None else weights * mask


def _mix(mix, key, images, labels, weights):
    """Images mixed with their neighbors, and the labels of both with the share of the first."""
    partners, theirs = image.swap_neighbors(images), image.swap_neighbors(labels)
    if weights is not None:  # padding, for example: in its place an example meets itself
        there = image.swap_neighbors(weights) != 0
        partners = jnp.where(there.reshape(-1, 1, 1, 1), partners, images)
        theirs = jnp.where(there, theirs, labels)
    images, shares = image.mix_neighbors(mix, key, images, partners)
    return images, (labels, theirs, shares)


def _distributions(targets, classes):
    """Labels, or pairs of them with the share of the first, as distributions `[B, classes]`."""
    if not isinstance(targets, tuple):
        return losses.one_hot(targets, classes)
    first, second, share = targets
    share = share[:, None]
    one, other = (losses.one_hot(labels, classes) for labels in (first, second))
    return share * one + (1 - share) * other


def _per_example(loss: str, label_smoothing: float):
    """`(logits, targets, train) -> values [B]`; targets are labels, or as `_mix` gives them."""
    if loss == "cross_entropy":

        def cross_entropy(logits, targets, train):
            if isinstance(targets, tuple):
                targets = _distributions(targets, logits.shape[-1])
            smoothing = label_smoothing if train else 0.0
            return losses.softmax_cross_entropy(logits, targets, label_smoothing=smoothing)

        return cross_entropy
    if loss == "squared_error":
        if label_smoothing:
            raise UserError("label smoothing is for cross_entropy, not for squared_error")
        return lambda logits, targets, train: losses.squared_error(
            logits, _distributions(targets, logits.shape[-1])
        )
    raise unknown("loss", loss, LOSSES)
