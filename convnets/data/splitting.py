"""Seeded orders and stratified shares: the same on every machine and NumPy version."""

import numpy as np

from convnets.errors import UserError

from .sources import Source


def seeded_order(size: int, *key: int) -> np.ndarray:
    """A permutation of `range(size)`, int64, that depends on the one or two integers of `key` only.

    The bits of a NumPy bit generator are fixed for ever, what `Generator.permutation` makes of them
    is not; so the order is that of the raw bits themselves.
    """
    bits = np.random.Philox(key=np.array((*key, 0)[:2], np.uint64)).random_raw(size)
    return np.argsort(bits, kind="stable")


def split_indices(labels, share: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the examples that stay, and of the `share` in [0, 1) set apart; both sorted.

    Stratified: of every class the same share is taken, to one example, and of the whole as well.

    >>> stay, apart = split_indices(np.array([0] * 8 + [1] * 4), 0.25)
    >>> np.array([0] * 8 + [1] * 4)[apart]
    array([0, 0, 1])
    """
    labels = np.asarray(labels)
    order = seeded_order(len(labels), seed)
    order = order[np.argsort(labels[order], kind="stable")]  # class by class, shuffled within
    marks = np.floor(np.arange(len(labels) + 1) * share + 0.5)
    apart = np.diff(marks) > 0  # every 1/share-th of them
    return np.sort(order[~apart]), np.sort(order[apart])


def split_validation(source: Source, share: float, seed: int = 0) -> tuple[Source, Source]:
    """A source in two, `(train, validation)`, the second with a stratified, seeded `share`.

    Where the labels are not known without reading everything (`source.labels` is None), the share
    is a plain random one.

    Raises: UserError if a class or the share itself would be left with no example.
    """
    labels = source.labels if source.labels is not None else np.zeros(len(source), np.int32)
    stay, apart = split_indices(labels, share, seed)
    if not len(apart) or len(np.unique(labels[stay])) < len(np.unique(labels)):
        raise UserError(
            f"a share of {share} of {len(source)} examples in {len(np.unique(labels))} classes "
            "leaves a class, or the share itself, without example"
        )
    return source.select(stay), source.select(apart)


def choose_per_class(labels, count: int, seed: int = 0) -> np.ndarray:
    """Indices of so many examples of each class, drawn at random, sorted. A smaller count draws a
    part of what a larger one does.

    Raises: UserError for a class with fewer.

    >>> choose_per_class(np.array([0, 0, 1, 1, 1]), 1)
    array([0, 2])
    """
    labels = np.asarray(labels)
    order = seeded_order(len(labels), seed)
    chosen = []
    for label in np.unique(labels[labels >= 0]):
        members = order[labels[order] == label]
        if not 1 <= count <= len(members):
            raise UserError(f"{count} examples of class {label}, of which there are {len(members)}")
        chosen.append(members[:count])
    return np.sort(np.concatenate(chosen))
