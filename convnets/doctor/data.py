"""Are the data what a network can learn from: ranges, labels, splits, normalization?"""

import hashlib

import numpy as np

from ..data.dataset import channel_statistics
from .finding import NOT_CHECKED, OK, Finding, judge
from .labels import check_labels
from .sampling import spread

SAMPLE = 20_000  # examples of a split that is not in memory whose pixels are read
SHIFTED, SIGMAS = 1.0, 6  # of the images' means, in their deviations; and what is no chance
RARE = 10  # the most frequent class over the least
LEAKED, TWICE, CONTRADICTED = 1.0, 10.0, 1.0  # percent of the images, at most


def check_data(dataset, *, normalization=None, trial=None) -> list[Finding]:
    """Looks at images and labels, without the network.

    Args:
      dataset: from `load_dataset`.
      normalization: of the images; None for the data set's own.
      trial: from `run_trial`, whose accuracy is a second witness on the labels; or None.

    Returns: findings on `range`, `normalization`, `classes`, `splits`, `leakage`, `duplicates` and
    `labels`.
    Of splits that are not in memory a sample is read, at most 20,000 examples each; the share of
    leaked images is then reckoned up from those that are found.
    """
    normalization = dataset.normalization if normalization is None else normalization
    examples = {split: _read(source) for split, source in dataset.splits.items() if len(source)}
    digests = {split: _digests(batch["image"]) for split, batch in examples.items()}
    train = examples["train"]
    return [
        _check_range(train["image"]),
        _check_normalization(dataset, normalization),
        _check_classes(dataset.class_names, examples),
        _check_splits({split: batch["image"] for split, batch in examples.items()}),
        _check_leakage(digests, {name: len(source) for name, source in dataset.splits.items()}),
        _check_duplicates(digests["train"], train["label"]),
        check_labels(train["image"], train["label"], trial=trial),
    ]


def _read(source):
    """The examples of a split, or evenly some of them."""
    from ..data.sources import ArraySource

    if isinstance(source, ArraySource):
        return source.batch(np.arange(len(source)))
    return source.batch(spread(len(source), min(SAMPLE, len(source))))


def _digests(images) -> np.ndarray:
    """A short name of each image's bytes, `[N]`."""
    names = [hashlib.blake2b(image.tobytes(), digest_size=8).digest() for image in images]
    return np.frombuffer(b"".join(names), np.uint64)


def _check_range(images):
    """Bytes by how much of their range they use; floats may be of any range."""
    low, high = images.min(), images.max()
    channels = images.shape[3]
    constant = int((np.ptp(images.reshape(-1, channels), 0) == 0).sum())
    integers = images.dtype.kind == "u"
    used = 255 * float(high - low) / np.iinfo(images.dtype).max if integers else float(high - low)
    verdict = judge(constant == channels or not np.isfinite(used), constant > 0)
    if integers and verdict == OK:
        verdict = judge(used < 16, used < 64)
    found = f"{images.dtype.name} from {low:.4g} to {high:.4g}"
    found += f"; {constant} of {channels} channels are constant" if constant else ""
    return Finding(
        "data",
        "range",
        verdict,
        used,
        "gray levels" if integers else "wide",
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
    """Of examples that have a label (from 0 on)."""
    counts = {split: _count(batch["label"], len(names)) for split, batch in examples.items()}
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


def _check_splits(images):
    """Whether images of other splits are as bright as those of training, up to chance."""
    means = {split: _brightness(x) for split, x in images.items()}
    train = means.pop("train")
    found = {}
    for split, other in means.items():
        chance = np.sqrt(train.var() / len(train) + other.var() / len(other))
        shift = abs(float(other.mean() - train.mean()))
        found[split] = shift / max(float(train.std()), 1e-12) * bool(shift > SIGMAS * chance)
    if not found:
        text = "there are no images but those of training"
        return Finding("data", "splits", NOT_CHECKED, None, "", text)
    split, shift = max(found.items(), key=lambda pair: pair[1])
    return Finding(
        "data",
        "splits",
        judge(False, shift > SHIFTED),
        shift,
        "deviations",
        f"by which images of {split} are brighter or darker than those of training",
        "Look at images of both splits: they have to be scaled, and light on dark, alike.",
    )


def _brightness(images):
    """The mean of each image, as a share of its dtype's range."""
    scale = np.iinfo(images.dtype).max if images.dtype.kind == "u" else 1
    return images.reshape(len(images), -1).mean(1, dtype=np.float64) / scale


def _count(labels, classes):
    return np.bincount(labels[labels >= 0], minlength=classes)


def _check_leakage(digests, sizes):
    """Images of a split that an earlier one has too: training, then validation, then test."""
    splits = [name for name in ("train", "validation", "test") if name in digests]
    if len(splits) < 2:
        text = "there are no images but those of training"
        return Finding("data", "leakage", NOT_CHECKED, None, "", text)
    shares = {}
    for number, split in enumerate(splits):
        for earlier in splits[:number]:
            seen = len(digests[earlier]) / sizes[earlier]
            share = np.isin(digests[split], digests[earlier]).mean() / seen
            shares[split, earlier] = 100 * min(float(share), 1.0)
    (split, earlier), share = max(shares.items(), key=lambda pair: pair[1])
    found = f"images of {split} that are images of {earlier} too, to the byte"
    if len(digests[earlier]) < sizes[earlier]:
        found += f", reckoned from {len(digests[earlier]):,} of {sizes[earlier]:,}"
    return Finding(
        "data",
        "leakage",
        judge(share > LEAKED, share > 0),
        share,
        f"% of {split}",
        found,
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
