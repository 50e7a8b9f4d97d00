"""With few labels, layers that learned from images without labels make fewer errors.

Command:    python experiments/pretraining_mnist.py --data-dir DIR    (DIR holds TFDS's mnist)
Hardware:   see results/pretraining_mnist.json
Minutes:    see there
Reference:  Ranzato 2012, slide "MNIST": "4-layer nnet pre-trained 1.0 %", "conv net pre-trained
            0.6 %"
Ours:       see the table and the figure of README.md, made from results/pretraining_mnist.json

The networks of `pretraining_networks.py`, by the recipe `convnets.pretrain`: layers that learn
from all 60,000 images without labels (denoising auto-encoders; filters by k-means on white
patches), then the classifier alone, the backbone being held, then everything. "random start" is the
same network, its last training alone, with the same settings; "scaled" with its units at the same
scale as those of the pre-trained one; of "first layer" only that one learned without labels; "held"
is the pre-trained one before everything is trained. Few labels are as many of each class, others
for each seed; all ways see the same ones. Settings were chosen on a tenth of the training split
(`--validation 0.1`); what is measured on test is the last state of each run.
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
from pretraining_networks import NETWORKS, PRINTED, SCALED, SMALL, scale_units
from tables import format_mean, format_table, name_seeds, origin

import convnets

NAME = "pretraining_mnist"
ALL = 0  # labels of the whole training split
STARTS = {  # and how far the recipe goes without labels
    "random start": None,
    "random start, scaled": None,
    "first layer": "features",
    "pre-trained": "stack",
}
WITH_ALL = ("random start", "pre-trained")  # labels: the others with few only
WAYS = {  # of the table: a start, and the error after which training
    "random start": ("random start", "test_error_percent"),
    "scaled": ("random start, scaled", "test_error_percent"),
    "first layer": ("first layer", "test_error_percent"),
    "held": ("pre-trained", "held_error_percent"),
    "pre-trained": ("pre-trained", "test_error_percent"),
}


@dataclasses.dataclass(frozen=True)
class Config(Common):
    """Train both networks from random start and pre-trained, with few labels and with all."""

    networks: tuple[str, ...] = tuple(NETWORKS)
    labels: tuple[int, ...] = (100, 500, 1000, ALL)
    """How many in all; 0: those of the whole training split."""
    seeds: tuple[int, ...] = (0, 1, 2)
    stage_epochs: float = 5
    """Passes over the images, or their patches, for each layer without labels."""
    stage_rate: float = 0.001
    classifier_steps: int = 500
    """Of the classifier alone."""
    classifier_rate: float = 0.01
    steps: int = 1000
    """With few labels, of everything."""
    learning_rate: float = 0.001
    """With few labels."""
    epochs: tuple[float, float] = (40, 20)
    """With all labels, of each of `NETWORKS`."""
    learning_rates: tuple[float, float] = (0.003, 0.001)
    """With all labels, of each of `NETWORKS`."""
    batch_size: int = 128
    weight_decay: float = 0.05
    augment: tuple[str, ...] = ("translate", "rotate")
    """Of images with labels."""
    validation: float = 0.0
    """Share of the training split that is set apart and measured in place of the test split."""


def main(config: Config) -> None:
    require_known("network", config.networks, NETWORKS)
    used = config
    if config.quick:
        small = {"networks": config.networks[-1:], "labels": (100,), "seeds": (0,)}
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
        for start in (WITH_ALL[1:] if config.quick else starts(network, labels))
    ]
    stack = functools.cache(functools.partial(learn_layers, used, dataset))
    run_cases(NAME, config, cases, functools.partial(run, used, dataset, stack))


def starts(network: str, labels: int) -> list[str]:
    """Those that are compared; a scaled one only of a network that is scaled when pre-trained."""
    few = [start for start in STARTS if SCALED[network] or "scaled" not in start]
    return list(WITH_ALL) if labels == ALL else few


def create(config: Config, network: str):
    """The classifier and its stages; narrow ones for --quick."""
    return NETWORKS[network](**(SMALL[network] if config.quick else {}))


def learn_layers(config: Config, dataset, network: str, seed: int, mode: str) -> dict:
    """The variables of a network whose first layer, or all that have stages, have learned without
    labels, once for all numbers of labels."""
    model, stages = create(config, network)
    workdir = config.workdir and config.workdir / f"{mode}_{network}_{seed}".replace(" ", "_")
    found = convnets.pretrain(
        model,
        dataset,
        stages,
        mode,
        seed=seed,
        workdir=workdir,
        resume=config.resume and workdir is not None,
        epochs=config.stage_epochs,
        batch_size=config.batch_size,
        learning_rate=config.stage_rate,
    )
    for result in found.results.values():
        require_whole(result)
    return scale_units(model, found.variables, dataset, SCALED[network])


def run(config: Config, dataset, stack, case: dict, folder) -> dict:
    """One network with one set of labels."""
    model, _ = create(config, case["network"])
    seed, count = case["seed"], case["labels"]
    labeled = dataset
    if count != ALL:
        labeled = convnets.data.keep_per_class(dataset, count // dataset.num_classes, seed=seed)
    length = {"steps": config.steps, "learning_rate": config.learning_rate}
    if count == ALL:
        place = list(NETWORKS).index(case["network"])
        length = {"epochs": config.epochs[place], "learning_rate": config.learning_rates[place]}
    options = {
        "seed": seed,
        "batch_size": min(config.batch_size, len(labeled.train)),
        "optimizer": "adamw",
        "weight_decay": config.weight_decay,
        "augment": config.augment,
        "evaluate_every": 2**30,
    }
    short = {"steps": config.classifier_steps, "learning_rate": config.classifier_rate}
    mode = STARTS[case["start"]]
    if mode is None:
        where, variables = can_go_on(folder, config), None
        if "scaled" in case["start"] and not where["resume"]:
            fresh = convnets.fit(model, labeled, steps=0, seed=seed, progress=False)
            variables = fresh.state.variables()
            variables = scale_units(model, variables, dataset, SCALED[case["network"]])
        result = convnets.fit(model, labeled, variables=variables, **options, **length, **where)
        require_whole(result)
        return summarize_run(result.history)
    found = convnets.pretrain(
        model,
        dataset,
        (),
        labeled=labeled,
        variables=stack(case["network"], seed, mode),
        classifier=short,
        fine_tuning=length,
        workdir=folder,
        resume=config.resume and folder is not None,
        **options,
    )
    for result in found.results.values():
        require_whole(result)
    held, tuned = (summarize_run(result.history) for result in found.results.values())
    return {**tuned, "held_error_percent": held["test_error_percent"]}


def errors(
    archive: dict, network: str, labels: int, start: str, name: str = "test_error_percent"
) -> list[float]:
    """Test errors in %, of each seed."""
    wanted = {"network": network, "labels": labels, "start": start}
    return [line[name] for line in archive["results"] if line.items() >= wanted.items()]


def gains(archive: dict, network: str, labels: int) -> list[float]:
    """How many points less of error pre-training made than random start, of each seed: both see
    the same labels."""
    random, learned = (errors(archive, network, labels, start) for start in WITH_ALL)
    return [before - after for before, after in zip(random, learned)]


def table(archive: dict) -> str:
    """The table of README.md."""
    networks = [x for x in NETWORKS if any(line["network"] == x for line in archive["results"])]
    counts = list(dict.fromkeys(line["labels"] for line in archive["results"]))
    columns = [(x, way) for x in networks for way in WAYS if SCALED[x] or way != "scaled"]
    rows = [("MNIST, labels", *(f"{network}, {way}" for network, way in columns))]
    for count in counts:
        found = [errors(archive, network, count, *WAYS[way]) for network, way in columns]
        rows.append((f"{count or 60000:,}", *(format_mean(x) if x else "" for x in found)))
    found = {(x, count): gains(archive, x, count) for x in networks for count in counts}
    gained = ", ".join(
        f"{format_mean(points)} ({network}, {count or 60000:,})"
        for (network, count), points in found.items()
        if points
    )
    printed = ", ".join(f"{PRINTED[network]} % ({network})" for network in networks)
    return (
        f"{format_table(rows)}\n\n{origin(archive)} Test error in %, mean and deviation of "
        f"{name_seeds(archive)}; held: only the classifier saw labels. "
        f"Points gained by pre-training (network, labels), seed for seed on the same labels: "
        f"{gained or 'none yet'}. "
        f"Printed for pre-trained ones in Ranzato's lecture: {printed}."
    )


def figure(archive: dict):
    """Mean test error by the number of labels, a line for each network and start."""
    import matplotlib.pyplot as plt

    drawn, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    for network, color in zip(NETWORKS, ("C0", "C1")):
        for start, style in zip(WITH_ALL, ("--", "-")):
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
