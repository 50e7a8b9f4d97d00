"""From a run's options to what its steps minimize."""

import inspect
from collections.abc import Callable

from .errors import UserError
from .feeding import make_mix, require_possible
from .tasks import classification_loss
from .training.options import TrainingOptions

# What only the loss of a classifier hears of.
OF_CLASSIFICATION = ("loss", "label_smoothing", "mix", "freeze_batch_norm")


def create_objective(
    model,
    options: TrainingOptions,
    normalization,
    augment,
    *,
    image_shape,
    devices: int,
    objective: Callable | None = None,
):
    """The loss function of a run.

    Args:
      model: from images to logits, or what the objective takes.
      options: with the batch size filled in.
      normalization: of the images.
      augment: `f(key, image) -> image`, or None.
      image_shape: `(H, W, C)`.
      devices: how many the batch is divided over.
      objective: `(model, *, normalization) -> loss function`, in the place of classification.

    Raises: UserError for augmentations and mixes that the images or the batch do not allow, for
    options that an objective of the caller's own does not hear of, and for one that takes something
    else or something more.
    """
    if objective is not None:
        defaults = TrainingOptions()
        given = [
            name for name in OF_CLASSIFICATION if getattr(options, name) != getattr(defaults, name)
        ]
        given += ["augment"] if augment is not None else []
        if given:
            raise UserError(
                f"an objective of your own does not hear of {', '.join(given)}: build it in"
            )
        _require_callable(objective, model, normalization)
        return objective(model, normalization=normalization)
    mix = make_mix(options.mix, options.batch_size // devices)
    require_possible(augment, mix, image_shape)
    return classification_loss(
        model,
        normalization=normalization,
        augment=augment,
        label_smoothing=options.label_smoothing,
        loss=options.loss,
        mix=mix,
        freeze_batch_norm=options.freeze_batch_norm,
    )


def _require_callable(objective, model, normalization):
    try:
        inspect.signature(objective).bind(model, normalization=normalization)
    except TypeError as error:
        raise UserError(
            f"an objective takes (model, *, normalization), and all else by a partial: {error}"
        ) from None
