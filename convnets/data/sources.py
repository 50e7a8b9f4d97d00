"""Sources: random access to images and their labels, one example or one batch at a time."""

import dataclasses
import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from convnets.errors import UserError

from .cropping import Crop, crop_and_resize

CHUNK = 4096  # examples decoded at a time when a whole source is brought into memory
THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


class Source:
    """`len(source)` examples; `source[i]` is one, `source.batch(indices)` many.

    An example is `{"image": uint8 [H, W, C], "label": int32 []}`, a batch
    `{"image": uint8 [B, H, W, C], "label": int32 [B]}`, in NumPy. Images that went through
    `map_images` are float32.

    Attributes:
      image_shape: `(H, W, C)`.
      labels: int32 `[N]`, or None where only reading every example would tell.
      resize: whether images of other sizes are brought to `image_shape` when they are decoded.
      original: the source to take parts of images from; this one, or what it was decoded from.
    """

    image_shape: tuple[int, int, int]
    labels: np.ndarray | None
    resize: bool = False

    @property
    def original(self) -> "Source":
        return self

    def __len__(self) -> int:
        raise NotImplementedError

    def batch(self, indices, crops: Sequence[Crop] | None = None) -> dict[str, np.ndarray]:
        """The examples at `indices`, an integer sequence `[B]`, in that order.

        With `crops` `[B]`, of each image the part that its function chooses, by the size that the
        image has before it is brought to `image_shape`.
        """
        raise NotImplementedError

    def select(self, indices) -> "Source":
        """The source of the examples at `indices`, in that order."""
        raise NotImplementedError

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        if not -len(self) <= index < len(self):  # also what ends `for example in source`
            raise IndexError(f"example {index} of {len(self)}")
        return {key: value[0] for key, value in self.batch([index % len(self)]).items()}

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({len(self)} images of {'x'.join(map(str, self.image_shape))})"
        )


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class ArraySource(Source):
    """Examples in memory.

    Args:
      images: uint8 `[N, H, W, C]`.
      labels: integers `[N]`, kept as int32.
      decoded_from: the source of the same images in their own sizes, where they have another.

    >>> source = ArraySource(np.zeros((3, 2, 2, 1), np.uint8), np.array([0, 1, 1]))
    >>> source.batch([2, 0])["label"]
    array([1, 0], dtype=int32)
    """

    images: np.ndarray
    labels: np.ndarray
    decoded_from: Source | None = None

    def __post_init__(self):
        images, labels = np.asarray(self.images), np.asarray(self.labels)
        if images.dtype != np.uint8 or images.ndim != 4:
            raise TypeError(f"images are uint8 [N, H, W, C], not {images.dtype} {images.shape}")
        if labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
            raise TypeError(
                f"labels are integers [{len(images)}], not {labels.dtype} {labels.shape}"
            )
        object.__setattr__(self, "images", images)
        object.__setattr__(self, "labels", labels.astype(np.int32))

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.images.shape[1:]

    def __len__(self) -> int:
        return len(self.images)

    @property
    def original(self) -> Source:
        return self if self.decoded_from is None else self.decoded_from

    def batch(self, indices, crops=None) -> dict[str, np.ndarray]:
        images, (height, width, _) = self.images[indices], self.image_shape
        if crops is not None:

            def cut(index):
                box = crops[index](height, width)
                return crop_and_resize(images[index], box, height, width)

            images = decode_in_threads(cut, len(images), self.image_shape)
        return {"image": images, "label": self.labels[indices]}

    def select(self, indices) -> "ArraySource":
        larger = None if self.decoded_from is None else self.decoded_from.select(indices)
        return ArraySource(self.images[indices], self.labels[indices], larger)


def in_memory(source: Source) -> ArraySource:
    """The same examples, every one decoded now; `original` stays what it was.

    Raises: UserError for images that are floats, as those of `map_images`.
    """
    if isinstance(source, ArraySource):
        return source
    images = np.empty((len(source), *source.image_shape), np.uint8)
    labels = np.empty(len(source), np.int32)
    for start in range(0, len(source), CHUNK):
        part = slice(start, min(start + CHUNK, len(source)))
        batch = source.batch(np.arange(part.start, part.stop))
        if batch["image"].dtype != np.uint8:
            raise UserError("images that are floats are not kept in memory: map them last")
        images[part], labels[part] = batch["image"], batch["label"]
    return ArraySource(images, labels, source if source.resize else None)


def decode_in_threads(decode: Callable[[int], np.ndarray], count: int, image_shape) -> np.ndarray:
    """`decode(0)` to `decode(count - 1)`, each uint8 `[H, W, C]`, stacked."""
    images = np.empty((count, *image_shape), np.uint8)

    def decode_part(part):
        for index in part:
            images[index] = decode(index)

    if THREADS == 1:
        decode_part(range(count))
    else:  # a few parts a thread: small images would drown in the bookkeeping of one task each
        size = max(1, count // (4 * THREADS))
        parts = [range(start, min(start + size, count)) for start in range(0, count, size)]
        list(_pool().map(decode_part, parts))
    return images


def map_in_threads(function: Callable, items: Sequence) -> list:
    """`[function(item) for item in items]`, several at a time."""
    return list(map(function, items) if THREADS == 1 else _pool().map(function, items))


def use_one_thread():
    """For a process that is one of many workers already."""
    global THREADS
    THREADS = 1


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS, thread_name_prefix="decoding")
