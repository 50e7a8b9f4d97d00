"""Waiting for all against waiting for none: error by time and by examples, for 1, 2 and 4 workers.

Command:    python experiments/sync_versus_async.py --data-dir DIR    (DIR holds TFDS's mnist)
Hardware:   see results/sync_versus_async.json; all workers share its cores
Minutes:    see there
Reference:  Dean et al. 2012, "Large scale distributed deep networks", figures 4 and 5; Stich 2019,
            "Local SGD converges fast and communicates little"; no errors on MNIST to compare with
Ours:       see the table and the figure of README.md, made from results/sync_versus_async.json

LeNet-5 with plain gradient descent at one rate, the same for all, and batches of 64 examples:

- synchronous: each update is the mean gradient of 64 examples, divided over the workers (devices of
  this process, by shard_map);
- local: each worker makes four updates alone, of its share of 64 examples, before all are averaged;
- asynchronous: each update is the gradient of 64 examples of one worker, as old as it may be
  (processes, a parameter server of one shard).

So every way makes as many updates of as many examples, and what differs is who waits for whom. One
worker is the same training three times, which shows what the machinery costs. Time begins with the
first of the evaluations, of which there are four an epoch: starting processes and compiling are
left out.
"""

import dataclasses
import statistics

import numpy as np
from archive import summarize_run
from cases import (
    Common,
    can_go_on,
    make_devices,
    require_whole,
    run_cases,
    run_from_shell,
)
from tables import format_table, name_seeds, origin

import convnets

NAME = "sync_versus_async"
WAYS = {
    "synchronous": lambda workers: {"parallel": "shard_map", "devices": workers},
    "local": lambda workers: {"parallel": "shard_map", "devices": workers, "average_every": 4},
    "asynchronous": lambda workers: {"parallel": "parameter-server", "workers": workers},
}


@dataclasses.dataclass(frozen=True)
class Config(Common):
    """Train LeNet-5 in three ways with several workers, and archive their curves."""

    seeds: tuple[int, ...] = (0, 1, 2)
    workers: tuple[int, ...] = (1, 2, 4)
    epochs: float = 2
    batch_size: int = 64
    learning_rate: float = 0.1


def main(config: Config) -> None:
    make_devices(max(config.workers))
    used, data = config, "mnist"
    if config.quick:
        small = {"seeds": config.seeds[:1], "workers": (2,), "epochs": 0.3}
        used, data = dataclasses.replace(config, **small), "digits"
    dataset = convnets.load_dataset(data, data_dir=config.data_dir)
    cases = [
        {"way": way, "workers": workers, "seed": seed}
        for seed in used.seeds
        for workers in used.workers
        for way in WAYS
    ]
    run_cases(NAME, config, cases, lambda case, folder: run(used, dataset, folder, **case))


def run(config: Config, dataset, folder, way: str, workers: int, seed: int) -> dict:
    """One training: its curve, and where there are pushes, how old they were."""
    every = max(1, len(dataset.train) // config.batch_size // 4)
    result = convnets.fit(
        convnets.create_model("lenet5", num_classes=dataset.num_classes),
        dataset,
        epochs=config.epochs,
        batch_size=config.batch_size,
        optimizer="sgd",
        learning_rate=config.learning_rate,
        seed=seed,
        evaluate_every=every,
        log_every=every,
        **WAYS[way](workers),
        **can_go_on(folder, config),
    )
    require_whole(result)
    lines = [line for line in result.history if "test_accuracy" in line]
    return {
        **summarize_run(result.history),
        "curve": [
            [
                line["step"] * config.batch_size,
                round(line["seconds"] - lines[0]["seconds"], 2),
                round(100 * (1 - line["test_accuracy"]), 3),
            ]
            for line in lines
        ],
        "staleness": lines[-1].get("server", {}).get("staleness"),
    }


def group(archive: dict) -> dict[tuple[str, int], list[dict]]:
    """The results of all seeds by way and workers."""
    groups = {}
    for line in archive["results"]:
        groups.setdefault((line["way"], line["workers"]), []).append(line)
    return groups


def add_staleness(lines: list[dict]) -> dict[int, int]:
    """How many pushes were so many updates old, in order; none where nothing was pushed."""
    ages = {}
    for line in lines:
        for age, many in (line["staleness"] or {}).items():
            ages[int(age)] = ages.get(int(age), 0) + many
    return dict(sorted(ages.items()))


def table(archive: dict) -> str:
    """The table of README.md."""
    rows = [("training", "workers", "test error", "seconds", "mean staleness")]
    for (way, workers), lines in group(archive).items():
        error = f"{statistics.mean(line['test_error_percent'] for line in lines):.2f} %"
        seconds = f"{statistics.median(line['curve'][-1][1] for line in lines):.0f}"
        ages = add_staleness(lines)
        mean = sum(age * many for age, many in ages.items()) / max(1, sum(ages.values()))
        rows.append((way, str(workers), error, seconds, f"{mean:.2f}" if ages else ""))
    return (
        f"{format_table(rows)}\n\n{origin(archive)} Means over {name_seeds(archive)}, seconds "
        "their median, from the first evaluation on. All workers share the cores: more of them are "
        "no faster here, and what is shown is what staleness and local steps do to the error."
    )


def figure(archive: dict):
    """Test error by examples and by time, and how old the pushes were."""
    import matplotlib.pyplot as plt

    drawn, axes = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    styles = {1: ":", 2: "--", 4: "-"}
    for (way, workers), lines in group(archive).items():
        examples, seconds, errors = np.mean([line["curve"] for line in lines], 0).T
        look = {"color": f"C{list(WAYS).index(way)}", "linestyle": styles.get(workers, "-")}
        axes[0].plot(examples / 1000, errors, label=f"{way}, {workers}", **look)
        axes[1].plot(seconds, errors, **look)
        ages = add_staleness(lines)
        total = sum(ages.values())
        shares = {age: 100 * many / total for age, many in ages.items() if many >= total / 1000}
        if workers > 1 and shares:
            look |= {"marker": "o", "markersize": 3}
            axes[2].plot(shares.keys(), shares.values(), label=f"{workers} workers", **look)
    axes[0].set_xlabel("examples seen [thousands]")
    axes[1].set_xlabel("seconds, all workers on the same cores")
    for axis in axes[:2]:
        axis.set_ylabel("test error, mean of the seeds [%]")
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter(lambda x, place: f"{x:g}" if x in (2, 3, 5, 20) else "")
    axes[0].legend(fontsize=8)
    axes[2].set_xlabel("updates between fetch and application")
    axes[2].set_ylabel("share of pushes [%]")
    axes[2].set_title("staleness of the asynchronous pushes", fontsize=10)
    if axes[2].lines:
        axes[2].legend(fontsize=8)
    for axis in axes:
        axis.grid(alpha=0.3)
    return drawn


if __name__ == "__main__":
    run_from_shell(NAME, main, Config)
