"""Sources of images, deterministic batches, prefetch; NumPy out."""

from .batching import batch_indices, batches, evaluation_batches, index_batches, resident_batches
from .cropping import CROPS, random_resized_crop
from .dataset import Dataset, channel_statistics
from .decoding import read_image, resize_image
from .folders import FileSource
from .labels import hide_labels, keep_per_class
from .loading import dataset_from_arrays, load_dataset
from .mapping import map_images, sample_patches
from .prefetching import prefetch
from .preparation import prepare_dataset
from .sources import ArraySource, Source, in_memory
from .splitting import choose_per_class, split_indices, split_validation

__all__ = [
    "CROPS",
    "ArraySource",
    "Dataset",
    "FileSource",
    "Source",
    "batch_indices",
    "batches",
    "channel_statistics",
    "choose_per_class",
    "dataset_from_arrays",
    "evaluation_batches",
    "hide_labels",
    "in_memory",
    "index_batches",
    "keep_per_class",
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
