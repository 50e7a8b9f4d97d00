"""Sources made of others: images that go through a function, and patches of images."""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from convnets.errors import UserError

from .dataset import Dataset
from .sources import Source
from .splitting import seeded_order


class MappedSource(Source):
    """The images of a source after a function of a batch, computed each time they are asked for.

    `function` takes uint8 `[B, H, W, C]` and returns float32 `[B, H', W', C']`, of each image the
    same whatever the others; `image_shape` is `(H', W', C')`.
    """

    def __init__(self, source: Source, function: Callable, image_shape: tuple[int, int, int]):
        self.source, self.function, self.image_shape = source, function, tuple(image_shape)

    def __len__(self):
        return len(self.source)

    @property
    def labels(self):
        return self.source.labels

    def batch(self, indices, crops=None):
        batch = self.source.batch(indices, crops)
        return {**batch, "image": np.asarray(self.function(batch["image"]), np.float32)}

    def select(self, indices):
        return MappedSource(self.source.select(indices), self.function, self.image_shape)


class PatchSource(Source):
    """Square patches of a source's images, each with its image's label.

    Attributes:
      corners: int `[N, 2]`, of each patch the first row and column; patch `i` is of the image
        `i // (N / images)`.
    """

    def __init__(self, source: Source, size: int, corners: np.ndarray):
        self.source, self.size, self.corners = source, size, corners
        self.image_shape = (size, size, source.image_shape[2])
        self.count = len(corners) // len(source)

    def __len__(self):
        return len(self.corners)

    @functools.cached_property
    def labels(self):
        labels = self.source.labels
        return None if labels is None else np.repeat(labels, self.count)

    def batch(self, indices, crops=None):
        if crops is not None:
            raise UserError("patches are taken as they are: leave out the crop")
        indices = np.asarray(indices)
        batch = self.source.batch(indices // self.count)
        rows, columns = (self.corners[indices, axis][:, None] for axis in (0, 1))
        rows, columns = (first + np.arange(self.size)[None] for first in (rows, columns))
        numbers = np.arange(len(indices))[:, None, None]
        return {**batch, "image": batch["image"][numbers, rows[:, :, None], columns[:, None]]}

    def select(self, indices):
        return _Selected(self, np.asarray(indices))


class _Selected(Source):
    """Some of a source's examples."""

    def __init__(self, source, indices):
        self.source, self.indices, self.image_shape = source, indices, source.image_shape

    def __len__(self):
        return len(self.indices)

    @property
    def labels(self):
        return None if self.source.labels is None else self.source.labels[self.indices]

    def batch(self, indices, crops=None):
        return self.source.batch(self.indices[indices], crops)

    def select(self, indices):
        return _Selected(self.source, self.indices[indices])


def map_images(dataset: Dataset, function: Callable) -> Dataset:
    """The data set whose images have gone through a function, such as the lower layers of a
    network, contrast normalization or whitening. They are computed when they are read.

    Args:
      dataset: any.
      function: uint8 `[B, H, W, C]` to floats `[B, H', W', C']`, or `[B, D]`, which become
        `[B, 1, 1, D]`; of each image the same whatever the others in its batch.

    Returns: a `Dataset` of float32 images, of any size of number, with the normalization that
    changes nothing.

    >>> from convnets.data.loading import load_dataset
    >>> digits = map_images(load_dataset("digits"), lambda images: images.mean((1, 2)))
    >>> digits.image_shape, digits.train[0]["image"].dtype
    ((1, 1, 1), dtype('float32'))
    """

    def as_images(images):
        found = np.asarray(function(images))
        return found[:, None, None, :] if found.ndim == 2 else found

    shape = as_images(dataset.train.batch([0])["image"]).shape[1:]
    if len(shape) != 3:
        raise UserError(f"expected images [B, H, W, C] or [B, D] of the function, came {shape}")
    splits = {
        name: MappedSource(source, as_images, shape) for name, source in dataset.splits.items()
    }
    return _replace(dataset, splits, normalization=type(dataset.normalization)())


def sample_patches(dataset: Dataset, size: int, count: int = 1, *, seed: int = 0) -> Dataset:
    """The data set of random square patches, as many of each image.

    Args:
      dataset: of images of at least that size.
      size: height and width of a patch, in pixels.
      count: patches of each image.
      seed: of their places.

    Raises: UserError for a size that the images do not have, and a count below 1.

    >>> from convnets.data.loading import load_dataset
    >>> patches = sample_patches(load_dataset("digits"), 5, 3)
    >>> len(patches.train), patches.image_shape
    (4314, (5, 5, 1))
    """
    height, width, _ = dataset.image_shape
    whole = isinstance(size, int | np.integer) and isinstance(count, int | np.integer)
    if not whole or not 1 <= size <= min(height, width) or count < 1:
        raise UserError(
            f"patches of 1 to {min(height, width)} pixels, at least 1 of each image; came "
            f"{size!r} and {count!r}"
        )
    splits = {}
    for number, (name, source) in enumerate(dataset.splits.items()):
        total = count * len(source)
        order = seeded_order(2 * total, seed, number).reshape(total, 2)
        corners = order % np.array([height - size + 1, width - size + 1])
        splits[name] = PatchSource(source, size, corners)
    return _replace(dataset, splits)


def _replace(dataset, splits, **others):
    return dataclasses.replace(dataset, **{**{"validation": None}, **splits, **others})
