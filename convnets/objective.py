"""From a run's options to what its steps minimize."""

from .feeding import make_mix, require_possible
from .tasks import classification_loss
from .training.options import TrainingOptions


def create_objective(
    model, options: TrainingOptions, normalization, augment, *, image_shape, devices: int
):
    """The loss function of a run.

    Args:
      model: from images to logits.
      options: with the batch size filled in.
      normalization: of the images.
      augment: `f(key, image) -> image`, or None.
      image_shape: `(H, W, C)`.
      devices: how many the batch is divided over.

    Raises: UserError for augmentations and mixes that the images or the batch do not allow.
    """
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
