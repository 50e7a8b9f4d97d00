"""What follows the filters counts for more than how these were learned: Jarrett's grid in small.

Command:    python experiments/stages.py --data-dir DIR             (DIR holds TFDS's mnist)
Hardware:   see results/stages.json
Minutes:    see there
Reference:  Jarrett, Kavukcuoglu, Ranzato, LeCun 2009, table 1: Caltech-101, two stages, with
            rectification, normalization and average pooling: 62.9 % right with random filters,
            65.5 % with learned ones that were refined
Ours:       see the table of README.md, made from results/stages.json

Two stages of `convnets.models.Stages` on few labels of MNIST, whose contrast is normalized locally:
filters that are random or learned without labels (filters and gains of the encoder of a predictive
sparse decomposition of patches of what is below), held under the classifier or refined with it;
after them with and without rectification, contrast normalization, and average or max pooling.
"""

import dataclasses
import statistics
from functools import partial

import jax
from archive import summarize_run
from cases import Common, load_mnist, require_known, require_whole, run_cases, run_from_shell
from tables import format_table, name_seeds, origin

import convnets
from convnets.models import Classifier
from convnets.models.stages import KINDS, Stages, StageSize
from convnets.ops import local_contrast_normalization
from convnets.unsupervised import PredictiveCoder, encoder_layer, sparse_coding_loss

NAME = "stages"
FILTERS = ("random", "learned")
WAYS = {"held": "", "refined": ", refined"}  # under the classifier
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
    stage_epochs: float = 20
    penalty: float = 0.5
    steps: int = 1500
    learning_rate: float = 0.001
    weight_decay: float = 0.05
    validation: float = 0.0
    """Share of the training split that is set apart and measured in place of the test split."""


def main(config: Config) -> None:
    require_known("kind", config.kinds, KINDS)
    used = config
    if config.quick:
        small = {"kinds": config.kinds[:1], "maps": (4, 6), "seeds": (0,), "images": 100}
        used = dataclasses.replace(config, **small, stage_epochs=0.5, steps=2)
    dataset = load_normalized(config)
    cases = [
        {"kind": kind, "filters": filters, "seed": seed}
        for kind in used.kinds
        for seed in used.seeds
        for filters in (FILTERS[1:2] if config.quick else FILTERS)
    ]
    run_cases(NAME, config, cases, partial(run, used, dataset))


def load_normalized(config: Config):
    """MNIST, each image with its contrast normalized locally."""
    normalize = jax.jit(lambda images: local_contrast_normalization(images / 255))
    return convnets.data.map_images(load_mnist(config), normalize)


def create(config: Config, kind: str):
    """The classifier, and what each of its stages learns without labels."""
    first, second = config.maps
    sizes = (StageSize(first, 5, 4, 2), StageSize(second, 5, 2, 1))
    model = Classifier(Stages(sizes, **KINDS[kind]), num_classes=10, pool="flatten")
    objective = partial(sparse_coding_loss, penalty=config.penalty)

    def stage(features, layer, **where):
        return convnets.PretrainingStage(
            PredictiveCoder(features, use_bias=False),
            objective,
            layer,
            patch=5,
            options={"epochs": config.stage_epochs},
            convert=filters_of,
            **where,
        )

    stages = [
        stage(first, "stage1"),
        stage(second, "stage2", below="stage1", patches=2),
    ]
    return model, stages


def filters_of(learner, variables) -> dict:
    """The encoder `gain * tanh(filters * x)`, as a stage has it."""
    found = encoder_layer(learner, variables)
    return {"filters": {"kernel": found["kernel"]}, "gain": found["gain"]}


def run(config: Config, dataset, case: dict, folder) -> dict:
    """The classifier on filters that are held, and then with all refined."""
    seed = case["seed"]
    model, stages = create(config, case["kind"])
    train = dataset.train.select(range(min(config.images, len(dataset.train))))
    labeled = convnets.data.keep_per_class(dataset, config.labels, seed=seed)
    variables = None
    if case["filters"] == "random":
        begun = convnets.fit(model, labeled, steps=0, seed=seed, progress=False)
        variables, stages = begun.state.variables(), ()
    found = convnets.pretrain(
        model,
        dataclasses.replace(dataset, train=train),
        stages,
        "fine_tune",
        labeled=labeled,
        variables=variables,
        classifier={"steps": config.steps, "weight_decay": config.weight_decay},
        fine_tuning={"steps": config.steps, "weight_decay": config.weight_decay},
        seed=seed,
        workdir=folder,
        resume=config.resume and folder is not None,
        batch_size=64,
        augment="none",
        optimizer="adamw",
        learning_rate=config.learning_rate,
        evaluate_every=2**30,
        progress=False,
    )
    for result in found.results.values():
        require_whole(result)
    return {
        "held": summarize_run(found.results["classifier"].history),
        "refined": summarize_run(found.results["fine_tuning"].history),
    }


def errors(archive: dict, kind: str, filters: str, way: str) -> list[float]:
    """Test errors in % of each seed."""
    lines = [x for x in archive["results"] if (x["kind"], x["filters"]) == (kind, filters)]
    return [line[way]["test_error_percent"] for line in lines]


def table(archive: dict) -> str:
    """The table of README.md."""
    columns = [(filters, way) for way in WAYS for filters in FILTERS]
    rows = [("two stages, then", *(filters + WAYS[way] for filters, way in columns))]
    for kind in dict.fromkeys(line["kind"] for line in archive["results"]):
        found = [errors(archive, kind, *column) for column in columns]
        rows.append((TITLES[kind], *(f"{statistics.mean(x):.2f}" if x else "" for x in found)))
    count = archive["settings"]["labels"]
    return (
        f"{format_table(rows)}\n\n{origin(archive)} Test error in % on MNIST with {count} labels "
        f"of each class, mean of {name_seeds(archive)}. Filters, random "
        "or learned without labels, are held under the classifier, or refined with it."
    )


if __name__ == "__main__":
    run_from_shell(NAME, main, Config)
