"""Layers that learned from images without labels make fewer errors, most of all with few labels.

Command:    python experiments/pretraining_mnist.py --data-dir DIR    (DIR holds TFDS's mnist)
Hardware:   see results/pretraining_mnist.json
Minutes:    see there
Reference:  Ranzato 2012, slide "MNIST": "4-layer nnet pre-trained 1.0 %", "conv net pre-trained
            0.6 %"
Ours:       see the table and the figure of README.md, made from results/pretraining_mnist.json

The networks of `pretraining_networks.py`, by the recipe `convnets.pretrain`: a denoising
auto-encoder for each layer on all 60,000 images, then the classifier alone, then everything.
"random start" is the same network, its last training alone, with the same settings. Few labels are
as many of each class, others for each seed; the two ways see the same ones. Settings are chosen on
a tenth of the training split (`--validation 0.1`); what is measured on test is the last state of
each run.
"""

import dataclasses
import functools
import statistics

from archive import summarize_run
from cases import (
    Common,
    can_go_on,
    load_mnist,
    require_known,
    require_whole,
    run_cases,
    run_from_shell,
)
from pretraining_networks import NETWORKS, PRINTED
from tables import format_table, origin

import convnets

NAME = "pretraining_mnist"
ALL = 0  # labels of the whole training split
STARTS = ("random start", "pre-trained")


@dataclasses.dataclass(frozen=True)
class Config(Common):
    """Train both networks from random start and pre-trained, with few labels and with all."""

    networks: tuple[str, ...] = tuple(NETWORKS)
    labels: tuple[int, ...] = (100, 500, 1000, 5000, ALL)
    """How many in all; 0: those of the whole training split."""
    seeds: tuple[int, ...] = (0, 1, 2)
    stage_epochs: float = 10
    """Passes over the images, or their patches, for each layer without labels."""
    stage_rate: float = 0.001
    classifier_steps: int = 500
    steps: int = 2000
    """With few labels, of everything."""
    epochs: float = 25
    """With all labels."""
    batch_size: int = 128
    learning_rate: float = 0.001
    weight_decay: float = 0.05
    augment: tuple[str, ...] = ("translate", "rotate")
    """Of images with labels."""
    validation: float = 0.0
    """Share of the training split that is set apart and measured in place of the test split."""


def main(config: Config) -> None:
    require_known("network", config.networks, NETWORKS)
    used = config
    if config.quick:
        small = {"networks": config.networks[:1], "labels": (100,), "seeds": (0,)}
        short = {"stage_epochs": 0.1, "classifier_steps": 2, "steps": 4}
        used = dataclasses.replace(config, **small, **short)
    dataset = load_mnist(config)
    # In [0, 1], where a pixel that is masked is black.
    dataset = dataclasses.replace(dataset, normalization=convnets.Normalization())
    cases = [
        {"network": network, "seed": seed, "labels": labels, "start": start}
        for network in used.networks
        for seed in used.seeds
        for labels in used.labels
        for start in (STARTS[1:] if config.quick else STARTS)
    ]
    stack = functools.cache(functools.partial(learn_layers, used, dataset))
    run_cases(NAME, config, cases, functools.partial(run, used, dataset, stack))


def create(config: Config, network: str):
    """The classifier and its stages; narrow ones for --quick."""
    return NETWORKS[network](*((8,) if config.quick else ()))


def learn_layers(config: Config, dataset, network: str, seed: int) -> dict:
    """The variables of a network whose layers have learned without labels, once for all numbers of
    labels."""
    model, stages = create(config, network)
    workdir = config.workdir and config.workdir / f"layers_{network}_{seed}".replace(" ", "_")
    found = convnets.pretrain(
        model,
        dataset,
        stages,
        "stack",
        seed=seed,
        workdir=workdir,
        resume=config.resume,
        epochs=config.stage_epochs,
        batch_size=config.batch_size,
        learning_rate=config.stage_rate,
    )
    for result in found.results.values():
        require_whole(result)
    return found.variables


def run(config: Config, dataset, stack, case: dict, folder) -> dict:
    """One network with one set of labels."""
    model, _ = create(config, case["network"])
    seed, count = case["seed"], case["labels"]
    labeled = dataset
    if count != ALL:
        labeled = convnets.data.keep_per_class(dataset, count // dataset.num_classes, seed=seed)
    length = {"epochs": config.epochs} if count == ALL else {"steps": config.steps}
    options = {
        "seed": seed,
        "batch_size": min(config.batch_size, len(labeled.train)),
        "optimizer": "adamw",
        "weight_decay": config.weight_decay,
        "augment": config.augment,
    }
    length |= {"learning_rate": config.learning_rate, "evaluate_every": 2**30}
    short = {"steps": config.classifier_steps, "evaluate_every": 2**30}
    if case["start"] == "random start":
        result = convnets.fit(model, labeled, **options, **length, **can_go_on(folder, config))
    else:
        found = convnets.pretrain(
            model,
            dataset,
            (),
            labeled=labeled,
            variables=stack(case["network"], seed),
            classifier=short,
            fine_tuning=length,
            workdir=folder,
            resume=config.resume,
            **options,
        )
        result = found.results["fine_tuning"]
        require_whole(found.results["classifier"])
    require_whole(result)
    return summarize_run(result.history)


def errors(archive: dict, network: str, labels: int, start: str) -> list[float]:
    """Test errors in %, of each seed."""
    wanted = {"network": network, "labels": labels, "start": start}
    return [x["test_error_percent"] for x in archive["results"] if x.items() >= wanted.items()]


def describe(found: list[float]) -> str:
    spread = f" ± {statistics.stdev(found):.2f}" if len(found) > 1 else ""
    return f"{statistics.mean(found):.2f}{spread}"


def table(archive: dict) -> str:
    """The table of README.md."""
    networks = [x for x in NETWORKS if any(line["network"] == x for line in archive["results"])]
    counts = list(dict.fromkeys(line["labels"] for line in archive["results"]))
    heads = [f"{network}, {start}" for network in networks for start in STARTS]
    rows = [("MNIST, labels", *heads)]
    for count in counts:
        found = [errors(archive, n, count, start) for n in networks for start in STARTS]
        rows.append((f"{count or 60000:,}", *(describe(x) if x else "" for x in found)))
    printed = ", ".join(f"{PRINTED[network]} % ({network})" for network in networks)
    return (
        f"{format_table(rows)}\n\n{origin(archive)} Test error in %, mean and deviation of the "
        f"seeds. Printed for pre-trained ones in Ranzato's lecture: {printed}."
    )


def figure(archive: dict):
    """Mean test error by the number of labels, a line for each network and start."""
    import matplotlib.pyplot as plt

    drawn, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    for network, color in zip(NETWORKS, ("C0", "C1")):
        for start, style in zip(STARTS, ("--", "-")):
            found = {
                count or 60000: errors(archive, network, count, start)
                for count in dict.fromkeys(line["labels"] for line in archive["results"])
            }
            found = {count: x for count, x in found.items() if x}
            means = [statistics.mean(x) for x in found.values()]
            spread = [statistics.stdev(x) if len(x) > 1 else 0 for x in found.values()]
            axis.errorbar(
                list(found), means, spread, marker="o", markersize=3, capsize=3, color=color,
                linestyle=style, label=f"{network}, {start}",
            )  # fmt: skip
    axis.set(xscale="log", yscale="log", xlabel="labels", ylabel="test error on MNIST [%]")
    axis.legend()
    axis.grid(alpha=0.3, which="both")
    return drawn


if __name__ == "__main__":
    run_from_shell(NAME, main, Config)
