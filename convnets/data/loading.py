"""`load_dataset`: every kind of data set by one name."""

import dataclasses
import math
import os
from functools import partial

import numpy as np

from convnets.errors import UserError

from .arrays import checked_dataset, load_idx, load_npz
from .catalog import load_catalog
from .dataset import Dataset, channel_statistics
from .decoding import resize_image
from .digits import load_digits
from .folders import load_folder
from .sources import ArraySource, in_memory
from .splitting import split_validation

IN_MEMORY_BYTES = 2**30  # sets up to this size, decoded, are decoded once
MOST_GIGABYTES = 16  # arrays are not brought to a size that would take more


def load_dataset(
    name: str,
    *,
    data_dir=None,
    validation: float = 0.0,
    seed: int = 0,
    image_size: int | tuple[int, int] | None = None,
) -> Dataset:
    """A data set by name.

    Args:
      name: `digits` (scikit-learn's handwritten ones); `folder:PATH`, of images in a folder for
        each class; `npz:PATH`, a file with `x_train, y_train, x_test, y_test`; `idx:PATH`, a folder
        with MNIST's archives; or the name of a TensorFlow Datasets set that is prepared: `mnist`,
        `cifar10:3.0.2`, `name/config:version`.
      data_dir: where TensorFlow Datasets' sets are; else `TFDS_DATA_DIR`, else TFDS's default.
      validation: the share of train, in [0, 1), that is set apart as validation split: seeded,
        stratified, the rest stays for training. Not used if the set has its own validation split.
      seed: of that share.
      image_size: an integer for squares or `(height, width)`: every image is scaled until it just
        covers it, and its center cropped. By default images keep their size where all have one.

    Returns: a `Dataset`. Sets of up to 1 GiB of pixels are decoded at once and held in memory,
    which finds every damaged image now; larger ones are decoded by the batch.

    Raises: UserError, saying what was expected, what came and what to try.

    >>> dataset = load_dataset("digits", validation=0.1)
    >>> len(dataset.train), len(dataset.validation), len(dataset.test), dataset.image_shape
    (1294, 144, 359, (28, 28, 1))
    """
    _require_share(validation)
    size = _parse_size(image_size)
    dataset = _read(name, data_dir, size)
    dataset = _hold_in_memory(dataset)
    return _finish(_resize(dataset, size), validation, seed)


def dataset_from_arrays(
    x_train,
    y_train,
    x_test,
    y_test,
    *,
    class_names=None,
    validation: float = 0.0,
    seed: int = 0,
    name: str = "arrays",
) -> Dataset:
    """A data set from arrays of one's own, for `fit`.

    Args:
      x_train, x_test: uint8 `[N, H, W]` or `[N, H, W, C]`.
      y_train, y_test: integers `[N]`, the classes from 0 on; each in `y_train`, unless they are
        named.
      class_names: in the order of the labels; by default their numbers.
      validation, seed: as for `load_dataset`.
      name: what a run's config calls it.

    Raises: UserError, saying what was expected, what came and what to do.

    >>> rng = np.random.default_rng(0)
    >>> images = rng.integers(0, 256, (60, 8, 8), np.uint8)
    >>> labels = np.arange(60) % 3
    >>> dataset = dataset_from_arrays(images[:40], labels[:40], images[40:], labels[40:])
    >>> dataset.train, dataset.num_classes
    (ArraySource(40 images of 8x8x1), 3)
    """
    arrays = {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}
    _require_share(validation)
    return _finish(checked_dataset(name, arrays, class_names=class_names), validation, seed)


def _require_share(validation):
    if not 0 <= validation < 1:
        raise UserError(f"validation is a share of the train split in [0, 1), not {validation}")


def _finish(dataset, validation, seed):
    """The validation split set apart, and the statistics of what stays for training."""
    if dataset.num_classes < 2:
        raise UserError(
            f"{dataset.name} has only one class, {dataset.class_names[0]!r}; expected two or more"
        )
    if validation and dataset.validation is not None:
        note = f"the set has its own validation split; the share {validation} is not used"
        dataset = dataclasses.replace(dataset, notes=(*dataset.notes, note))
    elif validation:
        train, apart = split_validation(dataset.train, validation, seed)
        dataset = dataclasses.replace(dataset, train=train, validation=apart)
    return dataclasses.replace(dataset, normalization=channel_statistics(dataset.train))


def _parse_size(image_size):
    if image_size is None:
        return None
    size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
        raise UserError(f"the image size is one or two positive integers, not {image_size}")
    return size


def _read(name, data_dir, size):
    if name == "digits":
        return load_digits()
    kind, _, path = name.partition(":")
    readers = {"folder": partial(load_folder, image_size=size), "npz": load_npz, "idx": load_idx}
    if kind not in readers:
        return load_catalog(name, data_dir, size)
    if not path:
        raise UserError(f"write {kind}:PATH, not {name}")
    return readers[kind](os.path.abspath(path))  # a run's config says it, and is read from anywhere


def _hold_in_memory(dataset):
    examples = sum(map(len, dataset.splits.values()))
    if examples * math.prod(dataset.image_shape) > IN_MEMORY_BYTES:
        return dataset
    held = {split: in_memory(source) for split, source in dataset.splits.items()}
    return dataclasses.replace(dataset, **held)


def _resize(dataset, size):
    """Arrays brought to the size asked for; other sources decode to it already."""
    if size is None or dataset.image_shape[:2] == size:
        return dataset
    examples = sum(map(len, dataset.splits.values()))
    gigabytes = examples * math.prod(size) * dataset.image_shape[2] / 1e9
    if gigabytes > MOST_GIGABYTES:
        raise UserError(
            f"{examples:,} images of {size[0]}x{size[1]} would take {gigabytes:,.0f} GB of memory; "
            "take a smaller image size"
        )
    resized = {}
    for split, source in dataset.splits.items():
        images = np.stack([resize_image(image, *size) for image in source.images])
        resized[split] = ArraySource(images, source.labels)
    native = "x".join(map(str, dataset.image_shape[:2]))
    note = f"images of {native} are brought to {size[0]}x{size[1]}"
    return dataclasses.replace(dataset, **resized, notes=(*dataset.notes, note))
