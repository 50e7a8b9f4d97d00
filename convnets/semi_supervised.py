"""Learning from few labels and many images: a supervised error plus an unsupervised one."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from .errors import UserError
from .models import Classifier
from .tasks import classification_loss
from .unsupervised import reconstruction_loss
from .unsupervised.autoencoder import decoded


class ReconstructingClassifier(nn.Module):
    """A classifier, and a decoder that makes images of what its backbone ends with.

    Called with images it returns logits, as any classifier; `method="reconstruct"` returns
    `{"code": …, "reconstruction": …}`, as an auto-encoder.

    Attributes:
      classifier: a `Classifier`.
      decoder: called `(code, *, train)`; returns images, or vectors of as many values.

    Parameters: `classifier/…`, `decoder/…`.

    Raises: UserError for a decoder that makes something else than such images.
    """

    classifier: Classifier
    decoder: nn.Module

    def __call__(self, images, *, train: bool):
        if self.is_initializing():
            self.reconstruct(images, train=train)
        return self.classifier(images, train=train)

    def reconstruct(self, images, *, train: bool) -> dict:
        """The code of the backbone, and the images that the decoder makes of it."""
        *_, code = self.classifier.backbone(images, train=train).values()
        return decoded(code, self.decoder(code, train=train), images)


class Method(NamedTuple):
    """A model of which another method is called: for losses that call `model.apply`."""

    model: nn.Module
    name: str

    def apply(self, *args: Any, **options: Any):
        """As `model.apply`."""
        return self.model.apply(*args, method=self.name, **options)


def semi_supervised_loss(
    model,
    *,
    normalization=None,
    weight: float = 1.0,
    supervised: Callable = classification_loss,
    unsupervised: Callable = reconstruction_loss,
    method: str = "reconstruct",
):
    """The loss function `supervised error + weight * unsupervised error`.

    Each is a mean: the supervised error over the examples that have a label, the unsupervised one
    over all. It is an objective for `fit`, as a partial of its options.

    Args:
      model: returns logits, and by its method of that name what the unsupervised error is of: as
        `ReconstructingClassifier`, which has `reconstruct`.
      normalization: of the images.
      weight: of the unsupervised error, not negative.
      supervised, unsupervised: `(model, *, normalization) -> loss function`, or partials of such,
        as `partial(reconstruction_loss, corrupt=mask_pixels)`.
      method: of the model, which the unsupervised loss function calls; `"__call__"` for its logits,
        as `unsupervised.consistency_loss` does.

    Returns: `loss_fn(params, batch_stats, batch, key) -> (loss, (batch_stats, metrics))`. A batch
    has `image`, and `label`, -1 where there is none; it may have `labeled` `[B]`, false for labels
    not to be looked at either, and `mask` and `weight`, as classification has them. Without any
    label the supervised error is 0. Metrics: `loss`, the sum of both; `supervised_loss` and what
    classification measures, of labeled examples; `unsupervised_loss` and what else that measures.

    Raises: UserError for a negative weight, a model without such a method, and batches without
    labels, where -1 stands for those that there are not.

    Reference: Ranzato 2012, slide "Semi-supervised learning"; Ranzato, Szummer 2008,
    "Semi-supervised learning of compact document representations with deep networks".

    >>> from convnets.models import MLP
    >>> from convnets.unsupervised import DenseDecoder
    >>> model = ReconstructingClassifier(Classifier(MLP((8,)), num_classes=10), DenseDecoder(16))
    >>> params = model.init(jax.random.key(0), jnp.zeros((1, 4, 4, 1)), train=False)["params"]
    >>> batch = {"image": jnp.zeros((3, 4, 4, 1)), "label": jnp.array([2, -1, -1])}
    >>> _, (_, found) = semi_supervised_loss(model)(params, {}, batch, None)
    >>> int(found["accuracy"][1]), int(found["unsupervised_loss"][1])
    (1, 3)
    """
    if not weight >= 0:
        raise UserError(f"the weight of the unsupervised error must not be negative, came {weight}")
    if not callable(getattr(model, method, None)):
        raise UserError(
            f"{type(model).__name__} has no {method!r}, which the unsupervised error is of: "
            'ReconstructingClassifier has "reconstruct", and every model "__call__"'
        )
    supervise = supervised(model, normalization=normalization)
    reconstruct = unsupervised(Method(model, method), normalization=normalization)

    def loss_fn(params, batch_stats, batch, key):
        keys = (None, None) if key is None else jax.random.split(key)
        labeled = labeled_only(batch)
        error, (batch_stats, measured) = supervise(params, batch_stats, labeled, keys[0])
        other, (batch_stats, besides) = reconstruct(params, batch_stats, batch, keys[1])
        total = error + weight * other
        counted = besides["loss"][1]
        measured = {
            **{name: pair for name, pair in besides.items() if name != "loss"},
            **{name: pair for name, pair in measured.items() if name != "loss"},
            "supervised_loss": measured["loss"],
            "unsupervised_loss": besides["loss"],
            "loss": (total * counted, counted),
        }
        return total, (batch_stats, measured)

    return loss_fn


def labeled_only(batch: dict) -> dict:
    """The batch for a supervised loss: examples without a label are outside of the mask.

    >>> batch = labeled_only({"label": jnp.array([3, -1])})
    >>> batch["label"].tolist(), batch["mask"].tolist()
    ([3, 0], [True, False])
    """
    if "label" not in batch:
        raise UserError(f"a batch has labels, -1 where there is none; came {', '.join(batch)}")
    labels = jnp.asarray(batch["label"])
    known = labels >= 0
    for name in ("labeled", "mask"):
        if name in batch:
            known &= jnp.asarray(batch[name], bool)
    return {**batch, "label": jnp.where(known, labels, 0), "mask": known}
