"""How a training split gets to the step: crops, augmentation, and batches."""

from . import data
from .errors import UserError, unknown
from .ops import image

RESIDENT_BYTES = 2**30  # a training split up to this size lies on the devices as a whole


def make_augment(augment):
    """The crop that is taken when images are decoded, and what is done on the devices; or None.

    Args:
      augment: names in order, or a function for the devices.

    Raises: UserError for an unknown name, and for a crop that is not the first.
    """
    if callable(augment) or not augment or tuple(augment) == ("none",):
        return None, augment if callable(augment) else None
    for name in augment:
        if name not in {*image.AUGMENTATIONS, *data.CROPS}:
            raise unknown("augmentation", name, [*image.AUGMENTATIONS, *data.CROPS])
    for name in augment[1:]:
        if name in data.CROPS:
            raise UserError(f"{name} is taken when images are decoded: name it first, and once")
    crop = data.CROPS.get(augment[0])
    functions = [image.AUGMENTATIONS[name] for name in (augment[1:] if crop else augment)]
    return crop, image.compose(*functions) if functions else None


def resident_examples(source, crop):
    """The examples of a split that lies on the devices as a whole; None for one fed to them."""
    small = isinstance(source, data.ArraySource) and source.images.nbytes <= RESIDENT_BYTES
    return {"image": source.images, "label": source.labels} if small and crop is None else None


def make_batches(source, options, step, crop, *, resident: bool):
    """The batches of a split, or their indices where the step gathers them on the devices."""
    if resident:
        return data.index_batches(source, options.batch_size, seed=options.seed)
    batches = data.batches(
        source, options.batch_size, seed=options.seed, workers=options.workers, crop=crop
    )
    return data.prefetch(batches, step.place_batch)
