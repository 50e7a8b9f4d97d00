"""A classifier that says the same of two views of images without labels errs less on few labels.

Command:    python experiments/semi_supervised.py --data-dir DIR    (DIR holds TFDS's mnist)
Hardware:   see results/semi_supervised.json
Minutes:    see there
Reference:  Ranzato 2012, slide "Semi-supervised learning": supervised error + unsupervised error;
            Laine, Aila 2017, "Temporal ensembling for semi-supervised learning" (consistency)
Ours:       see the table of README.md, made from results/semi_supervised.json

The convolutional network of `pretraining_networks.py`, from 10 to 500 labels of each class, the
same for all ways. "labels alone" minimizes the supervised error; the others add to it, by
`convnets.semi_supervised_loss` on batches half of whose images, on average, have no label, the
error of a denoising auto-encoder with a dense decoder, or the distance of the probabilities of two
views. All see as many labeled images in as many steps, with the same augmentation.
"""

import dataclasses
from functools import partial

from archive import summarize_run
from cases import Common, can_go_on, load_mnist, require_whole, run_cases, run_from_shell
from pretraining_networks import create_conv
from tables import format_mean, format_table, name_seeds, origin

import convnets
from convnets.ops import AUGMENTATIONS
from convnets.unsupervised import (
    DenseDecoder,
    consistency_loss,
    mask_pixels,
    reconstruction_loss,
)

NAME = "semi_supervised"
WAYS = ("labels alone", "and reconstruction", "and consistency")
AUGMENT = AUGMENTATIONS["translate"]


@dataclasses.dataclass(frozen=True)
class Config(Common):
    """Train on few labels of MNIST, without and with an unsupervised error beside."""

    labels: tuple[int, ...] = (10, 50, 100, 500)
    """Of each class."""
    seeds: tuple[int, ...] = (0, 1, 2)
    steps: int = 2000
    batch_size: int = 64
    """Images with labels in a step; with an unsupervised error there are as many without."""
    learning_rate: float = 0.001
    weight_decay: float = 0.05
    reconstruction: float = 0.02
    """Weight of its error, which is summed over pixels."""
    consistency: float = 1.0
    """Weight of the squared distance of probabilities."""
    validation: float = 0.0
    """Share of the training split that is set apart and measured in place of the test split."""


def main(config: Config) -> None:
    used = config
    if config.quick:
        small = {"labels": (10,), "seeds": (0,), "steps": 2, "batch_size": 16}
        used = dataclasses.replace(config, **small)
    dataset = load_mnist(config)
    dataset = dataclasses.replace(dataset, normalization=convnets.Normalization())  # in [0, 1]
    cases = [
        {"labels": count, "way": way, "seed": seed}
        for count in used.labels
        for seed in used.seeds
        for way in (WAYS[2:] if config.quick else WAYS)
    ]
    run_cases(NAME, config, cases, lambda case, folder: run(used, dataset, folder, **case))


def run(config: Config, dataset, folder, labels: int, way: str, seed: int) -> dict:
    """One training."""
    model, _ = create_conv(*((4, 8) if config.quick else ()))
    if way == "and reconstruction":
        model = convnets.ReconstructingClassifier(model, DenseDecoder(28 * 28))
    alone = way == WAYS[0]
    if alone:
        data = convnets.data.keep_per_class(dataset, labels, seed=seed)
    else:
        data = convnets.data.hide_labels(dataset, labels, seed=seed, share=0.5)
    result = convnets.fit(
        model,
        data,
        objective=choose_objective(config, way),
        augment="none",  # it is part of the errors
        steps=config.steps,
        batch_size=(1 if alone else 2) * min(config.batch_size, 10 * labels),
        optimizer="adamw",
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        evaluate_every=config.steps,
        seed=seed,
        **can_go_on(folder, config),
    )
    require_whole(result)
    return summarize_run(result.history)


def choose_objective(config: Config, way: str):
    """What is minimized."""
    supervised = partial(convnets.classification_loss, augment=AUGMENT)
    both = partial(convnets.semi_supervised_loss, supervised=supervised)
    if way == "and reconstruction":
        denoise = partial(reconstruction_loss, corrupt=mask_pixels)
        return partial(both, weight=config.reconstruction, unsupervised=denoise)
    if way == "and consistency":
        agree = partial(consistency_loss, augment=AUGMENT)
        return partial(both, weight=config.consistency, unsupervised=agree, method="__call__")
    return supervised


def errors(archive: dict, labels: int, way: str) -> list[float]:
    """Test errors in % of each seed."""
    lines = [x for x in archive["results"] if (x["labels"], x["way"]) == (labels, way)]
    return [line["test_error_percent"] for line in lines]


def table(archive: dict) -> str:
    """The table of README.md."""
    rows = [("MNIST, labels of each class", *WAYS)]
    for count in dict.fromkeys(line["labels"] for line in archive["results"]):
        found = []
        for way in WAYS:
            each = errors(archive, count, way)
            found.append(format_mean(each) if each else "")
        rows.append((str(count), *found))
    return (
        f"{format_table(rows)}\n\n{origin(archive)} Test error in %, mean and deviation of "
        f"{name_seeds(archive)}; each has other labels, the same for all ways."
    )


if __name__ == "__main__":
    run_from_shell(NAME, main, Config)
