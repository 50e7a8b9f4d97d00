"""Are the data what a network can learn from: ranges, labels, splits, normalization?"""

import hashlib

import numpy as np

from ..data.dataset import channel_statistics
from .finding import Finding, judge
from .labels import check_labels

SAMPLE = 20_000  # examples of a split that is not in memory whose pixels are read
RARE = 10  # the most frequent class over the least
LEAKED, TWICE, CONTRADICTED = 1.0, 10.0, 1.0  # percent of the images, at most


def check_data(dataset, *, normalization=None, trial=None) -> list[Finding]:
    """Looks at images and labels, without the network.

    Args:
      dataset: from `load_dataset`.
      normalization: of the images; None for the data set's own.
      trial: from `run_trial`, whose accuracy is a second witness on the labels; or None.

    Returns: findings on `range`, `normalization`, `classes`, `leakage`, `duplicates` and `labels`.
    Of splits that are not in memory a sample is read, at most 20,000 examples each.
    """
    normalization = dataset.normalization if normalization is None else normalization
    examples = {split: _read(source) for split, source in dataset.splits.items()}
    digests = {split: _digests(batch["image"]) for split, batch in examples.items()}
    train = examples["train"]
    return [
        _check_range(train["image"]),
        _check_normalization(dataset, normalization),
        _check_classes(dataset.class_names, examples),
        _check_leakage(digests),
        _check_duplicates(digests["train"], train["label"]),
        check_labels(train["image"], train["label"], trial=trial),
    ]


def _read(source):
    """The examples of a split, or evenly some of them."""
    from ..data.sources import ArraySource

    if isinstance(source, ArraySource) or len(source) <= SAMPLE:
        return source.batch(np.arange(len(source)))
    return source.batch(np.arange(SAMPLE) * len(source) // SAMPLE)


def _digests(images) -> np.ndarray:
    """A short name of each image's bytes, `[N]`."""
    names = [hashlib.blake2b(image.tobytes(), digest_size=8).digest() for image in images]
    return np.frombuffer(b"".join(names), np.uint64)


def _check_range(images):
    low, high = int(images.min()), int(images.max())
    constant = int((images.reshape(-1, images.shape[3]).std(0) == 0).sum())
    found = f"bytes from {low} to {high}"
    found += f"; {constant} of {images.shape[3]} channels are constant" if constant else ""
    return Finding(
        "data",
        "range",
        judge(high - low < 16 or constant == images.shape[3], high - low < 64 or constant > 0),
        high - low,
        "gray levels",
        found,
        "Images are bytes from 0 to 255: scale them before they become a data set, and leave "
        "constant channels out.",
    )


def _check_normalization(dataset, normalization):
    """What the network is given: its mean and its deviation, of the worst channel."""
    actual = channel_statistics(dataset.train)
    mean, std = (np.asarray(x) for x in normalization)
    means = (np.asarray(actual.mean) - mean) / std
    deviations = np.asarray(actual.std) / std
    sizes = np.sqrt(means**2 + deviations**2)  # root mean square
    worst = int(np.argmax(np.abs(np.log(sizes))))
    size = float(sizes[worst])
    return Finding(
        "data",
        "normalization",
        judge(not 0.03 <= size <= 30, not 0.2 <= size <= 4),
        size,
        "root mean square",
        f"the network's inputs have mean {means[worst]:.3g}, deviation {deviations[worst]:.3g}",
        "Normalize by the mean and deviation of the training images in units of [0, 1], which "
        "dataset.normalization has, and not by those of bytes or of other data.",
    )


def _check_classes(names, examples):
    counts = {split: np.bincount(e["label"], minlength=len(names)) for split, e in examples.items()}
    train = counts["train"]
    missing = [names[n] for n in np.flatnonzero(train == 0)]
    elsewhere = [split for split, found in counts.items() if split != "train" and not found.all()]
    ratio = train.max() / max(train.min(), 1)
    found = f"{train.min():,} to {train.max():,} training images a class"
    if missing:
        found = f"no training image of {', '.join(missing[:5])}{', …' if missing[5:] else ''}"
    elif elsewhere:
        found += f"; classes are missing from {' and '.join(elsewhere)}"
    return Finding(
        "data",
        "classes",
        judge(bool(missing), bool(elsewhere) or ratio > RARE),
        len(missing) or ratio,
        "classes missing" if missing else "times the rarest",
        found,
        "Find the images of missing classes, or leave those out; weigh or repeat rare ones.",
    )


def _check_leakage(digests):
    shares = {
        split: 100 * float(np.isin(found, digests["train"]).mean())
        for split, found in digests.items()
        if split != "train"
    }
    split = max(shares, key=shares.get)
    return Finding(
        "data",
        "leakage",
        judge(shares[split] > LEAKED, shares[split] > 0),
        shares[split],
        f"% of {split}",
        f"images of {split} that are training images too, to the byte",
        f"Take these images out of one of the two splits: what is measured on {split} is memory.",
    )


def _check_duplicates(digests, labels):
    order = np.argsort(digests, kind="stable")
    same = digests[order][1:] == digests[order][:-1]
    other = same & (labels[order][1:] != labels[order][:-1])
    twice, contradicted = (100 * float(x.sum()) / len(labels) for x in (same, other))
    found = "training images that are there once more"
    found += f"; {contradicted:.2g} % under another label" if contradicted else ""
    return Finding(
        "data",
        "duplicates",
        judge(contradicted > CONTRADICTED, twice > TWICE or contradicted > 0),
        twice,
        "% of train",
        found,
        "Keep each image once, under its right label.",
    )
