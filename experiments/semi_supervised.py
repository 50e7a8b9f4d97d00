"""A classifier that also reconstructs images without labels errs less than one that does not.

Command:    python experiments/semi_supervised.py --data-dir DIR    (DIR holds TFDS's mnist)
Hardware:   see results/semi_supervised.json
Minutes:    see there
Reference:  Ranzato 2012, slide "Semi-supervised learning": supervised error + unsupervised error
Ours:       see the table of README.md, made from results/semi_supervised.json

The convolutional network of `pretraining_networks.py` with a dense decoder, from 10 to 500 labels
of each class, the same for both. "labels alone" minimizes the supervised error; "and images" adds
the error of a denoising auto-encoder, `convnets.semi_supervised_loss`, on batches half of whose
images, on average, have no label. Both see as many labeled images in as many steps.
"""

import dataclasses
import statistics
from functools import partial

from archive import summarize_run
from cases import Common, can_go_on, load_mnist, require_whole, run_cases, run_from_shell
from pretraining_networks import create_conv
from tables import format_table, origin

import convnets
from convnets.ops import AUGMENTATIONS
from convnets.unsupervised import DenseDecoder, mask_pixels, reconstruction_loss

NAME = "semi_supervised"
WAYS = ("labels alone", "labels and images")


@dataclasses.dataclass(frozen=True)
class Config(Common):
    """Train on a few labels of MNIST, without and with an unsupervised error beside."""

    labels: tuple[int, ...] = (10, 50, 100, 500)
    """Of each class."""
    seeds: tuple[int, ...] = (0, 1, 2)
    steps: int = 4000
    batch_size: int = 64
    """Images with labels in a step; with an unsupervised error there are as many without."""
    learning_rate: float = 0.001
    weight_decay: float = 0.05
    weight: float = 0.02
    """Of the unsupervised error, summed over pixels."""
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
        for way in (WAYS[1:] if config.quick else WAYS)
    ]
    run_cases(NAME, config, cases, lambda case, folder: run(used, dataset, folder, **case))


def run(config: Config, dataset, folder, labels: int, way: str, seed: int) -> dict:
    """One training."""
    classifier, _ = create_conv(*((4, 8) if config.quick else ()))
    augment = AUGMENTATIONS["translate"]
    supervised = partial(convnets.classification_loss, augment=augment)
    if way == "labels alone":
        model, objective, share = classifier, supervised, 1
        data = convnets.data.keep_per_class(dataset, labels, seed=seed)
    else:
        model = convnets.ReconstructingClassifier(classifier, DenseDecoder(28 * 28))
        share = 2
        data = convnets.data.hide_labels(dataset, labels, seed=seed, share=0.5)
        objective = partial(
            convnets.semi_supervised_loss,
            weight=config.weight,
            supervised=supervised,
            unsupervised=partial(reconstruction_loss, corrupt=mask_pixels),
        )
    result = convnets.fit(
        model,
        data,
        objective=objective,
        augment="none",  # it is part of the supervised error
        steps=config.steps,
        batch_size=share * min(config.batch_size, 10 * labels),
        optimizer="adamw",
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        evaluate_every=config.steps,
        seed=seed,
        **can_go_on(folder, config),
    )
    require_whole(result)
    return summarize_run(result.history)


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
            spread = f" ± {statistics.stdev(each):.2f}" if len(each) > 1 else ""
            found.append(f"{statistics.mean(each):.2f}{spread}" if each else "")
        rows.append((str(count), *found))
    return (
        f"{format_table(rows)}\n\n{origin(archive)} Test error in %, mean and deviation of the "
        "seeds; each has other labels, the same for both ways."
    )


if __name__ == "__main__":
    run_from_shell(NAME, main, Config)
