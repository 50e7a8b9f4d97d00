"""What follows the filters counts for more than how these were learned: Jarrett's grid in small.

Command:    python experiments/stages.py --data-dir DIR             (DIR holds TFDS's mnist)
Hardware:   see results/stages.json
Minutes:    see there
Reference:  Jarrett, Kavukcuoglu, Ranzato, LeCun 2009, table 1: Caltech-101, two stages, with
            rectification, normalization and average pooling: 62.9 % right with random filters,
            65.5 % with learned ones that were refined
Ours:       see the table of README.md, made from results/stages.json

Two stages of `convnets.models.Stages` on few labels of MNIST: filters that are random or learned
without labels (predictive sparse decomposition on patches of what is below), held under the
classifier or refined with it; after them with and without rectification, contrast normalization,
and average or max pooling.
"""

import dataclasses
import statistics
from functools import partial

from archive import summarize_run
from cases import Common, load_mnist, require_whole, run_cases, run_from_shell
from tables import format_table, origin

import convnets
from convnets.models import Classifier
from convnets.models.stages import KINDS, Stages, StageSize
from convnets.unsupervised import PredictiveCoder, encoder_layer, sparse_coding_loss

NAME = "stages"
FILTERS = ("random", "learned", "random, refined", "learned, refined")
TITLES = {
    "abs_norm_average": "rectified, normalized, average",
    "abs_average": "rectified, average",
    "norm_max": "normalized, max",
    "norm_average": "normalized, average",
    "average": "average",
    "max": "max",
}


@dataclasses.dataclass(frozen=True)
class Config(Common):
    """Train classifiers on stages of every kind, random, learned and refined."""

    kinds: tuple[str, ...] = tuple(KINDS)
    labels: int = 30
    """Of each class."""
    maps: tuple[int, int] = (32, 64)
    seeds: tuple[int, ...] = (0, 1, 2)
    images: int = 20_000
    """Images, without labels, whose patches the filters are learned from."""
    stage_epochs: float = 5
    penalty: float = 0.2
    steps: int = 1500
    learning_rate: float = 0.001
    weight_decay: float = 0.05
    validation: float = 0.0
    """Share of the training split that is set apart and measured in place of the test split."""


def main(config: Config) -> None:
    used = config
    if config.quick:
        small = {"kinds": config.kinds[:1], "maps": (4, 6), "seeds": (0,), "images": 100}
        used = dataclasses.replace(config, **small, stage_epochs=0.5, steps=2)
    dataset = load_mnist(config)
    cases = [
        {"kind": kind, "filters": filters, "seed": seed}
        for kind in used.kinds
        for seed in used.seeds
        for filters in (FILTERS[1:2] if config.quick else FILTERS)
    ]
    run_cases(NAME, config, cases, lambda case, folder: run(used, dataset, **case))


def create(config: Config, kind: str):
    """The classifier, and what each of its stages learns without labels."""
    first, second = config.maps
    sizes = (StageSize(first, 5, 4, 2), StageSize(second, 5, 2, 1))
    model = Classifier(Stages(sizes, **KINDS[kind]), num_classes=10, pool="flatten")
    objective = partial(sparse_coding_loss, penalty=config.penalty)

    def stage(features, layer, **where):
        return convnets.PretrainingStage(
            PredictiveCoder(features),
            objective,
            layer,
            patch=5,
            options={"epochs": config.stage_epochs},
            convert=filters_of,
            **where,
        )

    stages = [
        stage(first, "stage1/filters"),
        stage(second, "stage2/filters", below="stage1", patches=2),
    ]
    return model, stages


def filters_of(learner, variables) -> dict:
    """The encoder's filters times the gain of each code, at the mean length that random ones have;
    the paper's stages have no biases."""
    found = encoder_layer(learner, variables)
    kernel = found["kernel"] * found["gain"][None]
    lengths = (kernel**2).sum(0) ** 0.5
    return {"kernel": kernel / lengths.mean()}


def run(config: Config, dataset, kind: str, filters: str, seed: int) -> dict:
    """One classifier."""
    model, stages = create(config, kind)
    train = dataset.train.select(range(min(config.images, len(dataset.train))))
    labeled = convnets.data.keep_per_class(dataset, config.labels, seed=seed)
    variables = None
    if filters.startswith("random"):
        variables = convnets.fit(model, labeled, steps=0, seed=seed, progress=False)
        variables, stages = variables.state.variables(), ()
    found = convnets.pretrain(
        model,
        dataclasses.replace(dataset, train=train),
        stages,
        "fine_tune" if filters.endswith("refined") else "classifier",
        labeled=labeled,
        variables=variables,
        classifier={"steps": config.steps, "weight_decay": config.weight_decay},
        fine_tuning={"steps": config.steps, "weight_decay": config.weight_decay},
        seed=seed,
        batch_size=64,
        augment="none",
        optimizer="adamw",
        learning_rate=config.learning_rate,
        evaluate_every=2**30,
        progress=False,
    )
    for result in found.results.values():
        require_whole(result)
    return summarize_run(list(found.results.values())[-1].history)


def table(archive: dict) -> str:
    """The table of README.md."""
    kinds = list(dict.fromkeys(line["kind"] for line in archive["results"]))
    ways = list(dict.fromkeys(line["filters"] for line in archive["results"]))
    rows = [("two stages, then", *ways)]
    for kind in kinds:
        row = [TITLES[kind]]
        for way in ways:
            lines = [x for x in archive["results"] if (x["kind"], x["filters"]) == (kind, way)]
            errors = [line["test_error_percent"] for line in lines]
            row.append(f"{statistics.mean(errors):.2f}" if errors else "")
        rows.append(tuple(row))
    count = archive["settings"]["labels"]
    return (
        f"{format_table(rows)}\n\n{origin(archive)} Test error in % on MNIST with {count} labels "
        "of each class, mean of the seeds."
    )


if __name__ == "__main__":
    run_from_shell(NAME, main, Config)
