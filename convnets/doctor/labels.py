"""Have the labels anything to do with the images?"""

import math

import numpy as np

from .finding import NOT_CHECKED, OK, WARNING, WRONG, Finding
from .sampling import spread

SAMPLE = 2000  # images that are compared with each other
FEWEST = 100  # fewer cannot tell
MANY = 500  # of so many a verdict is certain
SIDE = 16  # pixels, about, that they are brought to
SIGMAS = 4


def check_labels(images, labels, *, trial=None) -> Finding:
    """Whether an image's nearest neighbor has its label more often than by chance.

    Of pictures in which pixels tell little, the accuracy of a trial on the test split is a second
    witness; where both say chance, the labels are not those of the images, or nobody can tell.

    Args:
      images: uint8 `[N, H, W, C]`.
      labels: integers `[N]`; images of those below 0 are left out.
      trial: from `run_trial`, or None.

    >>> images = np.repeat(np.arange(200, dtype=np.uint8), 4).reshape(200, 2, 2, 1)
    >>> check_labels(images, np.arange(200) // 20).verdict
    'ok'
    """
    known = np.flatnonzero(labels >= 0)
    chosen = known[spread(len(known), min(SAMPLE, len(known)))]
    images, labels = images[chosen], labels[chosen]
    shares = np.bincount(labels) / max(len(labels), 1)
    chance = float((shares**2).sum())
    if len(labels) < FEWEST or chance == 1:
        text = f"{len(labels)} images of {len(np.unique(labels))} classes tell nothing"
        return Finding("data", "labels", NOT_CHECKED, None, "", text)
    alike = float((labels == labels[_nearest(images)]).mean())
    found = f"of nearest neighbors have the same label, by chance {100 * chance:.3g}"
    known = _is_above(alike, chance, len(labels))
    verdict = OK if known else WARNING
    if not known and trial is not None and trial.examples:
        by_chance = float(shares.max())
        learned = _is_above(trial.accuracy, by_chance, trial.examples)
        found += f"; after {len(trial.losses)} steps {100 * trial.accuracy:.3g} % of test are right"
        verdict = OK if learned else WRONG if len(labels) >= MANY else WARNING
    return Finding(
        "data",
        "labels",
        verdict,
        100 * alike,
        "%",
        found,
        "Look at some images beside their labels: they may have been shuffled apart.",
    )


def _is_above(share, chance, count) -> bool:
    """Whether a share of so many is more than chance makes of it."""
    return share - chance > SIGMAS * math.sqrt(chance * (1 - chance) / count)


def _nearest(images) -> np.ndarray:
    """The index of each image's nearest other one, by the squares of their differences."""
    factor = max(1, min(images.shape[1:3]) // SIDE)
    height, width = (side // factor * factor for side in images.shape[1:3])
    blocks = images[:, :height, :width].astype(np.float32)
    blocks = blocks.reshape(len(images), height // factor, factor, width // factor, factor, -1)
    rows = blocks.mean((2, 4)).reshape(len(images), -1) / 255
    squares = (rows**2).sum(1)
    distances = squares[:, None] + squares[None] - 2 * rows @ rows.T
    np.fill_diagonal(distances, np.inf)
    return distances.argmin(1)
