"""HMAX and the Neocognitron classify the embedded digits above 90 %, each by its own learning.

Command:    python experiments/classic_digits.py
Hardware:   two cores of an x86-64 server, no accelerator
Minutes:    about five
Reference:  none on these digits; the claim is that no feature needs back-propagation
Ours:       see the table of README.md, made from results/classic_digits.json

HMAX stores 300 patches of training images and a linear SVM classifies C2. The Neocognitron's two
S-layers learn by competition, without labels; a third, whose planes have labels, answers with that
of its strongest cell. Beside it, a linear SVM on the last C-layer. All settings were chosen with
`--split validation`, a fifth of the training split.
"""

import dataclasses
import time
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from archive import RESULTS, write_archive
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from tables import format_table, origin

import convnets
from convnets.models import HMAX, Neocognitron, sample_prototypes
from convnets.models.neocognitron import Pair
from convnets.unsupervised import competition

NAME = "classic_digits"
PAIRS = (
    Pair(36, 5, 2, 5, selectivity=4.0, rate=1.0, learning=6.0),
    Pair(96, 5, 0, 3, selectivity=3.0, rate=16.0, learning=8.0),
)
TOP = Pair(800, 6, 0, 1, selectivity=1.0, rate=1e4, learning=12.0)
PRESENTATIONS = 2  # of all images to the layer with labels
BATCH = 64


@dataclasses.dataclass(frozen=True)
class Config:
    """Train both on the digits, once for each seed, and archive what they reach."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """One run for each: the prototypes, or the first weights and the order of the images."""
    split: Literal["test", "validation"] = "test"
    """What accuracy is measured on. Settings are chosen by the second, a fifth of the training."""
    quick: bool = False
    """One seed and 50 training images: shows within seconds that everything runs."""
    archive: Path | None = None
    """File for the results. Default: experiments/results/classic_digits.json, unless --quick."""


def main(config: Config) -> None:
    whole_run = not config.quick and config.split == "test"
    archive = config.archive or (RESULTS / f"{NAME}.json" if whole_run else None)
    share = 0.0 if config.split == "test" else 0.2
    dataset = convnets.load_dataset("digits", validation=share)
    train, test = read(dataset.train), read(getattr(dataset, config.split))
    if config.quick:
        train, test = [[part[:50] for part in split] for split in (train, test)]
    results, begin = [], time.monotonic()
    for seed in config.seeds[:1] if config.quick else config.seeds:
        found = {"seed": seed, f"{config.split}_examples": len(test[1])}
        for name, run in (("hmax", run_hmax), ("neocognitron", run_neocognitron)):
            start = time.monotonic()
            found |= run(seed, train, test)
            found[f"{name}_seconds"] = round(time.monotonic() - start, 1)
        results.append(found)
        print(found)
        if archive is not None:
            write_archive(archive, NAME, config, results, (time.monotonic() - begin) / 60)


def read(source) -> list:
    """Images from 0 to 1 and labels of a split."""
    batch = source.batch(range(len(source)))
    return [batch["image"].astype(np.float32) / 255, batch["label"]]


def run_hmax(seed: int, train, test) -> dict:
    """C2 of images of 56x56 pixels, and a linear SVM."""
    backbone = HMAX(patch_sizes=(4, 8), prototypes=150)
    key, choice = jax.random.split(jax.random.key(seed))
    some = jax.random.permutation(choice, len(train[0]))[:200]
    params = sample_prototypes(key, backbone, enlarge(train[0][some]))
    c2 = jax.jit(lambda x: backbone.apply({"params": params}, enlarge(x), train=False)["c2"])
    seen, unseen = in_batches(c2, train[0]), in_batches(c2, test[0])
    return {"hmax_accuracy": separate(seen, unseen, train[1], test[1])}


def run_neocognitron(seed: int, train, test) -> dict:
    """Two layers learned without labels, and a third with them or a linear SVM."""
    images, labels = center(train[0]), jnp.asarray(train[1])
    init_key, key = jax.random.split(jax.random.key(seed))
    order = jax.random.permutation(key, len(images))
    backbone = Neocognitron(PAIRS)
    params = backbone.init(init_key, images[:1], train=False)["params"]
    params = competition.train_layers(backbone, params, images[order])
    c2 = jax.jit(lambda x: backbone.apply({"params": params}, center(x), train=False)["c2"])
    seen, unseen = in_batches(c2, train[0]), in_batches(c2, test[0])
    layer = competition.unlabeled_layer(PAIRS[-1].planes, TOP)
    for _ in range(PRESENTATIONS):
        layer = competition.train_labeled_layer(layer, seen[order], labels[order], pair=TOP)
    answers = competition.classify(layer, unseen, pair=TOP)
    return {
        "neocognitron_accuracy": float(np.mean(np.asarray(answers) == test[1])),
        "neocognitron_planes": int((layer["label"] >= 0).sum()),
        "neocognitron_svm_accuracy": separate(seen, unseen, train[1], test[1]),
    }


def enlarge(images):
    """28x28 pixels to 56x56, in which prototypes of 8x8 C1 cells fit."""
    return jax.image.resize(images, (len(images), 56, 56, 1), "linear")


def center(images):
    """The middle 22x22 pixels as 16x16, the size of the Neocognitron's input."""
    return jax.image.resize(jnp.asarray(images)[:, 3:25, 3:25], (len(images), 16, 16, 1), "linear")


def in_batches(function, images):
    """The function of all images, computed in batches of one size."""
    missing = np.zeros((-len(images) % BATCH, *images.shape[1:]), images.dtype)
    padded = np.concatenate([images, missing])
    parts = [function(padded[i : i + BATCH]) for i in range(0, len(padded), BATCH)]
    return jnp.concatenate(parts)[: len(images)]


def separate(train, test, train_labels, test_labels) -> float:
    """The accuracy of a linear SVM on standardized features."""
    svm = make_pipeline(StandardScaler(), LinearSVC(C=0.01, dual=True, max_iter=10_000))
    train, test = (np.asarray(x).reshape(len(x), -1) for x in (train, test))
    return float(svm.fit(train, train_labels).score(test, test_labels))


def table(archive: dict) -> str:
    """The table of README.md."""
    head = ("digits, features without back-propagation", "HMAX, linear SVM")
    rows = [(*head, "Neocognitron, its own labels", "Neocognitron, linear SVM")]
    names = ("hmax_accuracy", "neocognitron_accuracy", "neocognitron_svm_accuracy")
    for repetition in archive["results"]:
        found = [f"{100 * repetition[name]:.2f} %" for name in names]
        rows.append((f"seed {repetition['seed']}", *found))
    return f"{format_table(rows)}\n\n{origin(archive)}"


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
