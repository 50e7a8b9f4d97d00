"""Sources of images, deterministic batches, prefetch; NumPy out."""

from .batching import batch_indices, batches, evaluation_batches, index_batches, resident_batches
from .cropping import CROPS, random_resized_crop
from .dataset import Dataset, channel_statistics
from .decoding import read_image, resize_image
from .folders import FileSource
from .loading import dataset_from_arrays, load_dataset
from .mapping import map_images, sample_patches
from .prefetching import prefetch
from .preparation import prepare_dataset
from .sources import ArraySource, Source, in_memory
from .splitting import split_indices, split_validation

__all__ = [
    "CROPS",
    "ArraySource",
    "Dataset",
    "FileSource",
    "Source",
    "batch_indices",
    "batches",
    "channel_statistics",
    "dataset_from_arrays",
    "evaluation_batches",
    "in_memory",
    "index_batches",
    "load_dataset",
    "map_images",
    "prefetch",
    "prepare_dataset",
    "random_resized_crop",
    "read_image",
    "resident_batches",
    "resize_image",
    "sample_patches",
    "split_indices",
    "split_validation",
]
