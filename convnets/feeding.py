"""How a training split gets to the step: crops, augmentation, and batches."""

import jax
import jax.numpy as jnp

from . import data, parallel
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
    if "none" in augment:
        raise UserError(f"none stands alone, not among {', '.join(map(str, augment))}")
    for name in augment:
        if name not in {*image.AUGMENTATIONS, *data.CROPS}:
            raise unknown("augmentation", name, [*image.AUGMENTATIONS, *data.CROPS])
    for name in augment[1:]:
        if name in data.CROPS:
            raise UserError(f"{name} is taken when images are decoded: name it first, and once")
    crop = data.CROPS.get(augment[0])
    functions = [image.AUGMENTATIONS[name] for name in (augment[1:] if crop else augment)]
    return crop, image.compose(*functions) if functions else None


def make_mix(mix, local: int):
    """What mixes examples, or None.

    Args:
      mix: a name, a function, or None.
      local: examples in a step on each device.

    Raises: UserError for an unknown name, and for an odd number of examples.
    """
    if mix is None:
        return None
    if not callable(mix) and mix not in image.MIXES:
        raise unknown("mix", mix, image.MIXES)
    if local % 2:
        raise UserError(
            f"examples are mixed in pairs: take a batch size of which each device has an even "
            f"number, not {local}"
        )
    return mix if callable(mix) else image.MIXES[mix]


def require_possible(augment, mix, image_shape) -> None:
    """Refuses, before anything is trained, what does not fit the images.

    Raises: UserError for an augmentation that asks for three channels, for example.
    """
    batch = jax.ShapeDtypeStruct((2, *image_shape), jnp.uint8)

    def change(key, images):
        images = image.prepare(images, None, augment, key)
        return images if mix is None else image.mix_neighbors(mix, key, images, images)[0]

    found = jax.eval_shape(change, jax.random.key(0), batch).shape
    if found != batch.shape:
        raise UserError(
            f"augmentation makes images of {'x'.join(map(str, found[1:]))} out of those of "
            f"{'x'.join(map(str, image_shape))}"
        )


def resident_examples(source, crop):
    """The examples of a split that lies on the devices as a whole; None for one fed to them."""
    small = isinstance(source, data.ArraySource) and source.images.nbytes <= RESIDENT_BYTES
    return {"image": source.images, "label": source.labels} if small and crop is None else None


def make_batches(source, options, step, crop, *, resident: bool):
    """The batches of a split, or their indices where the step gathers them on the devices; of each
    this process's share."""
    index, count = parallel.process_share(step.mesh)
    share = {"seed": options.seed, "process_index": index, "process_count": count}
    if resident:
        return data.index_batches(source, options.batch_size, **share)
    batches = data.batches(source, options.batch_size, workers=options.workers, crop=crop, **share)
    return data.prefetch(batches, step.place_batch)
