"""Batch norm in the wrong mode, or with the wrong statistics, undoes what training has reached.

Command:    python experiments/batch_norm_modes.py
Hardware:   see results/batch_norm_modes.json
Minutes:    see there
Reference:  lecture S3 ("make sure your BN usage is correct! this causes many of my bugs"); Ioffe
            and Szegedy 2015, algorithms 1 and 2; Wu and Johnson 2021, "Rethinking 'Batch'"
Ours:       see the figure of README.md, made from results/batch_norm_modes.json

A small plain network (three stages of two 3x3 convolutions, batch norm behind each) on the embedded
digits, 320 test images, 32 of each class. It is trained three times: with running averages of
momentum 0.9, with the same of 0.999, and with batch norm frozen at its initial statistics from the
start (`freeze_batch_norm`). The first two have the same parameters: their statistics alone differ.
They are tested in all the ways that the table names. Exact statistics are those of the whole
training split as one batch (`convnets.recompute_statistics`).
Mixed batches of 32 do no harm here: it is what they are made of that counts.
"""

import dataclasses
import statistics
from functools import partial

import jax
import numpy as np
from cases import Common, run_cases, run_from_shell
from tables import format_table, name_seeds, origin
from trainings import compile_on, initial_state, last_loss, optimizer_with_rate, record

import convnets
from convnets.layers import BatchNorm
from convnets.models.cifar_resnet import keep, stem3x3
from convnets.models.classifier import Classifier
from convnets.models.resnet import PlainBlock, ResNet

NAME = "batch_norm_modes"
WAYS = {
    "right": "running averages",
    "mixed_batches": "statistics of test batches of 32",
    "one_class": "the same, each batch of one class",
    "single_images": "the same, one image at a time",
    "never_updated": "running averages never updated",
    "stale": "momentum 0.999, so too little updated",
    "recomputed": "the same, then computed exactly",
    "frozen": "frozen in training too",
}


@dataclasses.dataclass(frozen=True)
class Config(Common):
    """Train networks with batch norm, test them in right and wrong modes, archive accuracies."""

    seeds: tuple[int, ...] = (0, 1, 2)
    stages: tuple[int, ...] = (1, 1, 1)
    features: int = 16
    rate: float = 0.01
    steps: int = 200
    batch_size: int = 64
    images_of_a_class: int = 32


def main(config: Config) -> None:
    small = {"seeds": (0,), "stages": (), "features": 4, "steps": 2, "images_of_a_class": 1}
    used = dataclasses.replace(config, **(small if config.quick else {}))
    dataset = convnets.load_dataset("digits")
    networks = {"right": create_network(used, 0.9), "stale": create_network(used, 0.999)}
    programs = compile_programs(used, dataset, networks)
    images = choose_images(dataset.test, used.images_of_a_class)
    cases = [{"seed": seed} for seed in used.seeds]
    run_cases(
        NAME,
        config,
        cases,
        lambda case, folder: run(used, dataset, networks, programs, images, **case),
    )


def create_network(config: Config, momentum: float) -> Classifier:
    backbone = ResNet(
        stage_sizes=config.stages,
        block=PlainBlock,
        features=config.features,
        stem=stem3x3,
        stem_pool=keep,
        norm=partial(BatchNorm, momentum=momentum),
    )
    return Classifier(backbone, num_classes=10)


def compile_programs(config: Config, dataset, networks) -> dict:
    """Training steps by name, the accuracy of a batch in either mode, and its exact statistics."""
    create = partial(convnets.classification_loss, normalization=dataset.normalization)
    loss_fns = {name: create(network) for name, network in networks.items()}
    loss_fns["frozen"] = create(networks["right"], freeze_batch_norm=True)

    def correct(state, batch, key):
        loss_fn = loss_fns["right"]
        _, (_, metrics) = loss_fn(state.params, state.batch_stats, batch, key)
        return metrics["accuracy"][0]

    steps = {
        name: compile_on(
            convnets.make_step(loss_fn, optimizer_with_rate("momentum", config.rate)),
            dataset.train,
            config.steps,
        )
        for name, loss_fn in loss_fns.items()
    }
    moments = jax.jit(convnets.make_moments_step(networks["stale"]))
    return {"steps": steps, "correct": jax.jit(correct), "moments": moments}


def choose_images(source, count: int) -> dict:
    """The first so many images of every class, class by class."""
    of_classes = [np.flatnonzero(source.labels == label)[:count] for label in range(10)]
    return source.batch(np.concatenate(of_classes))


def run(config: Config, dataset, networks, programs, images, seed: int) -> dict:
    """Trains one start in three ways; the accuracies in percent, and the training losses."""
    states, losses = {}, {}
    optimizer = optimizer_with_rate("momentum", config.rate)
    start = initial_state(networks["right"], dataset, optimizer, seed)
    for name, step in programs["steps"].items():
        states[name], curve = record(
            step, start, dataset.train, config.batch_size, config.steps, seed
        )
        losses[name] = last_loss(curve)
    right, size = states["right"], config.images_of_a_class
    by_class = np.arange(10 * size)
    mixed = by_class.reshape(10, size).T.ravel()
    whole = dataset.train.batch(range(len(dataset.train)))
    exact = convnets.recompute_statistics(
        networks["stale"], states["stale"], [whole], step=programs["moments"]
    )

    def accuracy(state, order, size, train):
        key = state.key if train else None
        batches = [
            {name: x[part] for name, x in images.items()} for part in order.reshape(-1, size)
        ]
        found = [programs["correct"](state, batch, key) for batch in batches]
        return round(100 * float(np.sum(found)) / len(order), 3)

    accuracies = {
        "right": accuracy(right, mixed, size, False),
        "mixed_batches": accuracy(right, mixed, size, True),
        "one_class": accuracy(right, by_class, size, True),
        "single_images": accuracy(right, mixed, 1, True),
        "never_updated": accuracy(right.replace(batch_stats=start.batch_stats), mixed, size, False),
        "stale": accuracy(states["stale"], mixed, size, False),
        "recomputed": accuracy(exact, mixed, size, False),
        "frozen": accuracy(states["frozen"], mixed, size, False),
    }
    return {"accuracies": accuracies, "last_losses": losses}


def accuracies(archive: dict, way: str) -> list[float]:
    """Of each seed, in percent."""
    return [result["accuracies"][way] for result in archive["results"]]


def table(archive: dict) -> str:
    """The table of README.md."""
    rows = [("digits, tested with", "accuracy", "least and most")]
    for way, name in WAYS.items():
        found = accuracies(archive, way)
        rows.append(
            (name, f"{statistics.median(found):.1f} %", f"{min(found):.1f} - {max(found):.1f} %")
        )
    return f"{format_table(rows)}\n\n{origin(archive)} Medians of {name_seeds(archive)}."


def figure(archive: dict):
    """The accuracy in every mode, as bars, with a dot for each seed."""
    import matplotlib.pyplot as plt

    drawn, axis = plt.subplots(figsize=(10, 3.6), layout="constrained")
    for place, way in enumerate(reversed(WAYS)):
        found = accuracies(archive, way)
        fine = way in ("right", "recomputed")
        axis.barh(place, statistics.median(found), color="C0" if fine else "C1", alpha=0.7)
        axis.plot(found, [place] * len(found), "o", color="black", markersize=3)
    axis.set_yticks(range(len(WAYS)), list(reversed(WAYS.values())))
    axis.axvline(10, color="gray", linestyle=":", linewidth=1)
    axis.set(xlabel="accuracy on the test images [%] (dotted: guessing)", xlim=(0, 101))
    return drawn


if __name__ == "__main__":
    run_from_shell(NAME, main, Config)
