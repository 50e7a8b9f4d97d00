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
worker is the same training three times, which shows what the machinery costs. The seconds are the
run's, its compilation and evaluations included.
"""

import dataclasses

from archive import summarize_run
from cases import (
    Common,
    can_go_on,
    make_devices,
    require_whole,
    run_cases,
    run_from_shell,
)
from tables import format_table, origin

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

    seeds: tuple[int, ...] = (0,)
    workers: tuple[int, ...] = (1, 2, 4)
    epochs: float = 4
    batch_size: int = 64
    learning_rate: float = 0.1


def main(config: Config) -> None:
    make_devices(max(config.workers))
    used, data = config, "mnist"
    if config.quick:
        used, data = dataclasses.replace(config, workers=(2,), epochs=0.3), "digits"
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
                round(line["seconds"], 2),
                round(100 * (1 - line["test_accuracy"]), 3),
            ]
            for line in lines
        ],
        "staleness": lines[-1].get("server", {}).get("staleness"),
    }


def mean_staleness(line: dict) -> str:
    """Of the pushes of a run; nothing where there were none."""
    ages = {int(age): many for age, many in (line["staleness"] or {}).items()}
    if not ages:
        return ""
    return f"{sum(age * many for age, many in ages.items()) / sum(ages.values()):.2f}"


def table(archive: dict) -> str:
    """The table of README.md."""
    rows = [("training, workers", "test error", "seconds", "mean staleness")]
    for line in archive["results"]:
        name = f"{line['way']}, {line['workers']}"
        error = f"{line['test_error_percent']:.2f} %"
        rows.append((name, error, f"{line['curve'][-1][1]:.0f}", mean_staleness(line)))
    return (
        f"{format_table(rows)}\n\n{origin(archive)} All workers share the cores: more of them are "
        "no faster here, and what is shown is what staleness and local steps do to the error."
    )


def figure(archive: dict):
    """Test error by examples and by time, and how old the pushes were."""
    import matplotlib.pyplot as plt

    drawn, axes = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    colors = {way: f"C{number}" for number, way in enumerate(WAYS)}
    styles = {1: ":", 2: "--", 4: "-"}
    for line in archive["results"]:
        examples, seconds, errors = zip(*line["curve"])
        look = {"color": colors[line["way"]], "linestyle": styles.get(line["workers"], "-")}
        label = f"{line['way']}, {line['workers']}"
        axes[0].plot([x / 1000 for x in examples], errors, label=label, **look)
        axes[1].plot(seconds, errors, **look)
        if line["staleness"] and line["workers"] > 1:
            ages = {int(age): many for age, many in line["staleness"].items()}
            total = sum(ages.values())
            shown = sorted(age for age, many in ages.items() if many >= total / 1000)
            shares = [100 * ages[age] / total for age in shown]
            axes[2].plot(
                shown, shares, marker="o", ms=3, label=f"{line['workers']} workers", **look
            )
    axes[0].set_xlabel("examples seen [thousands]")
    axes[1].set_xlabel("seconds, all workers on the same cores")
    for axis in axes[:2]:
        axis.set_ylabel("test error [%]")
        axis.set_yscale("log")
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
