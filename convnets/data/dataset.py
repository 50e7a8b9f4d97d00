"""What a data set is, and the statistics of its pixels."""

import dataclasses

import numpy as np

from convnets.errors import UserError
from convnets.ops.image import Normalization

from .sources import ArraySource, Source
from .splitting import seeded_order

SAMPLE = 4096  # examples whose pixels stand for a train split that is not in memory


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Images in classes, split.

    Attributes:
      name: what it was loaded by.
      train, validation, test: sources; `validation` is None if there is none.
      class_names: in the order of the labels, `0` to `num_classes - 1`; the label -1 in `train`
        says that there is none.
      normalization: mean and standard deviation of the train split's channels, in units of [0, 1].
      notes: what was done to the data on the way, for a person to read.

    Raises: UserError for a label without a name, and for splits of different image shapes.
    """

    name: str
    train: Source
    validation: Source | None
    test: Source
    class_names: tuple[str, ...]
    normalization: Normalization = dataclasses.field(default_factory=Normalization)
    notes: tuple[str, ...] = ()

    def __post_init__(self):
        for split in ("train", "test"):
            if getattr(self, split) is None:
                raise TypeError(f"{split} is a Source, not NoneType")
        for split, source in self.splits.items():
            if not isinstance(source, Source):
                raise TypeError(f"{split} is a Source, not {type(source).__name__}")
            if source.image_shape != self.image_shape:
                raise UserError(
                    f"the images of {self.name} differ: {self.image_shape} in train, "
                    f"{source.image_shape} in {split}"
                )
            labels = source.labels
            if labels is None or not len(labels):
                continue
            least = -1 if split == "train" else 0
            for label in (labels.min(), labels.max()):
                if not least <= label < self.num_classes:
                    raise UserError(
                        f"labels out of range: {split} of {self.name} has the label {label}, "
                        f"its {self.num_classes} classes are numbered 0 to {self.num_classes - 1}"
                    )

    @property
    def splits(self) -> dict[str, Source]:
        """The splits that there are, by name."""
        sources = {"train": self.train, "validation": self.validation, "test": self.test}
        return {split: source for split, source in sources.items() if source is not None}

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """`(H, W, C)`."""
        return self.train.image_shape


def channel_statistics(source: Source) -> Normalization:
    """Mean and standard deviation of each channel in units of [0, 1], exact for a source in memory.

    Other sources give a fixed random sample of 4,096 examples. A deviation below one of 255 grey
    levels counts as one, so that a constant channel is not blown up. Floats count as they are.

    >>> channel_statistics(ArraySource(np.full((1, 2, 2, 1), 51, np.uint8), np.array([0]))).mean
    (0.2,)
    """
    if isinstance(source, ArraySource):
        images = source.images
    else:
        images = source.batch(np.sort(seeded_order(len(source), 0)[:SAMPLE]))["image"]
    channels, whole = images.shape[-1], images.dtype.kind == "u"
    kind, exact = (np.uint32, np.uint64) if whole else (np.float64, np.float64)
    total, squares = np.zeros(channels, exact), np.zeros(channels, exact)
    for start in range(0, len(images), 256):  # integers: no rounding, whatever the order
        part = np.ascontiguousarray(images[start : start + 256].reshape(-1, channels).T, kind)
        total += part.sum(axis=1, dtype=exact)
        squares += (part * part).sum(axis=1, dtype=exact)
    count = images.size // channels
    mean = total / count
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 0))
    largest = np.iinfo(images.dtype).max if whole else 1.0
    std = np.maximum(deviation, largest / 255)
    return Normalization(tuple((mean / largest).tolist()), tuple((std / largest).tolist()))
