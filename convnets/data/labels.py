"""Few labels: data sets of few examples of each class, and of many without a label beside them."""

import dataclasses

import numpy as np

from convnets.errors import UserError

from .dataset import Dataset
from .sources import ArraySource, in_memory
from .splitting import choose_per_class

NONE = -1  # the label of an example that has none


def keep_per_class(dataset: Dataset, count: int, *, seed: int = 0) -> Dataset:
    """The data set with so many examples of each class in `train`, and no others there.

    Raises: UserError for a class with fewer.

    >>> from convnets.data.loading import load_dataset
    >>> len(keep_per_class(load_dataset("digits"), 10).train)
    100
    """
    chosen = choose_per_class(_labels(dataset), count, seed)
    return dataclasses.replace(dataset, train=dataset.train.select(chosen))


def hide_labels(
    dataset: Dataset, count: int, *, seed: int = 0, share: float | None = None
) -> Dataset:
    """The data set with so many labels of each class in `train`, and -1 in the place of others; the
    same examples keep theirs as in `keep_per_class`.

    Args:
      dataset: any.
      count: labels kept of each class.
      seed: of the choice.
      share: of examples with a label, in (0, 1): these are repeated, one after the other, until
        they are that share of an epoch, at least once each; None for each example once.

    Raises: UserError for a class with fewer, and another share.

    >>> from convnets.data.loading import load_dataset
    >>> labels = hide_labels(load_dataset("digits"), 10, share=0.5).train.labels
    >>> len(labels), int((labels >= 0).sum())
    (2676, 1338)
    """
    labels = _labels(dataset)
    chosen = choose_per_class(labels, count, seed)
    others = np.setdiff1d(np.arange(len(labels)), chosen)
    if share is not None:
        if not 0 < share < 1:
            raise UserError(f"the share of examples with a label lies in (0, 1), came {share}")
        wanted = max(len(chosen), round(share / (1 - share) * len(others)))
        chosen = np.resize(chosen, wanted)
    order = np.concatenate([chosen, others])
    kept = np.where(np.arange(len(order)) < len(chosen), labels[order], NONE)
    source = in_memory(dataset.train.select(order))
    return dataclasses.replace(dataset, train=ArraySource(source.images, kept))


def _labels(dataset):
    labels = dataset.train.labels
    return in_memory(dataset.train).labels if labels is None else labels
