"""Consistency: a classifier says the same of an image whichever way it is distorted."""

import jax
import jax.numpy as jnp

from .. import losses, metrics
from ..ops import image


def consistency_loss(model, *, normalization: image.Normalization | None = None, augment=None):
    """The loss function `‖p(x') - p(x'')‖²` of probabilities for two random views of each image.

    The views differ by augmentation and dropout. In evaluation nothing is random: the loss is 0,
    of every state.

    Args:
      model: returns logits `[B, K]`.
      normalization: of the images; None leaves them in [0, 1].
      augment: `f(key, image) -> image` on one float image in [0, 1].

    Returns: `loss_fn(params, batch_stats, batch, key) -> (loss, (batch_stats, metrics))`. Of the
    batch `image` and `mask` are read. Metrics, over the examples of the mask: `loss`, and
    `agreement`, the share of images of which both views are given the same class.

    Reference: Sajjadi, Javanmardi, Tasdizen 2016, "Regularization with stochastic transformations
    and perturbations for deep semi-supervised learning", equation 1; Laine, Aila 2017, "Temporal
    ensembling for semi-supervised learning", the Π-model.

    >>> import convnets
    >>> model = convnets.create_model("linear", num_classes=3)
    >>> params = model.init(jax.random.key(0), jnp.zeros((1, 4, 4, 1)), train=False)["params"]
    >>> batch = {"image": jnp.ones((2, 4, 4, 1))}
    >>> consistency_loss(model)(params, {}, batch, jax.random.key(1))[0].item()
    0.0
    """

    def loss_fn(params, batch_stats, batch, key):
        mask = batch.get("mask")

        def predict(batch_stats, key):
            variables = {"params": params, **({"batch_stats": batch_stats} if batch_stats else {})}
            if key is None:
                images = image.prepare(batch["image"], normalization)
                return model.apply(variables, images, train=False), batch_stats
            augment_key, dropout_key = jax.random.split(key)
            images = image.prepare(batch["image"], normalization, augment, augment_key)
            logits, updates = model.apply(
                variables,
                images,
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": dropout_key},
            )
            return logits, updates.get("batch_stats", batch_stats)

        keys = (None, None) if key is None else jax.random.split(key)
        one, batch_stats = predict(batch_stats, keys[0])
        other, batch_stats = predict(batch_stats, keys[1])
        values = jnp.square(jax.nn.softmax(one) - jax.nn.softmax(other)).sum(1)
        measured = {
            "loss": metrics.mean_metric(values, mask),
            "agreement": metrics.mean_metric(one.argmax(1) == other.argmax(1), mask),
        }
        return losses.weighted_mean(values, mask), (batch_stats, measured)

    loss_fn.ranks = False
    return loss_fn
