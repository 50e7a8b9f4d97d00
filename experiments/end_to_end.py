"""A training of LeNet-5 on MNIST does as many images a second as its bare step, or nearly.

Command:    python experiments/end_to_end.py --data-dir DIR   (DIR holds MNIST as TFDS prepares it)
Hardware:   see results/end_to_end.json; nothing else ought to run there
Minutes:    see results/end_to_end.json
Reference:  the step alone on one batch, over and over, timed by `convnets benchmark`
Ours:       see the table of README.md, made from results/end_to_end.json

The training is `convnets train` in a process of its own, timed from the end of its first epoch to
the end of its last: reading batches, the evaluation of every epoch and checkpoints included, but
neither the start of Python nor compilation. It augments nothing, as the bare step does not. Each
repetition is one run of either; the ratio is the median of theirs.
"""

import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import tyro
from archive import RESULTS, write_archive
from tables import format_table, origin

NAME = "end_to_end"


@dataclasses.dataclass(frozen=True)
class Config:
    """Train and time the step in turn, with batches of two sizes, and archive both rates."""

    data_dir: Path | None = None
    """Folder of prepared data sets. Default: that of the environment, or ~/tensorflow_datasets."""
    batch_sizes: tuple[int, ...] = (64, 512)
    epochs: int = 4
    """Of a training; all but the first are timed."""
    repetitions: int = 5
    quick: bool = False
    """The embedded digits, one batch size and one repetition: shows that everything runs."""
    archive: Path | None = None
    """File for the results. Default: experiments/results/end_to_end.json, unless --quick."""


def main(config: Config) -> None:
    archive = config.archive or (None if config.quick else RESULTS / f"{NAME}.json")
    given, data = config, "digits" if config.quick else "mnist"
    if config.quick:
        config = dataclasses.replace(config, batch_sizes=(64,), epochs=2, repetitions=1)
    begin, results = time.monotonic(), []
    for repetition in range(config.repetitions):
        for batch_size in config.batch_sizes:
            step = time_step(batch_size)
            run = time_training(data, batch_size, config)
            rates = {"step": step, "training": run, "ratio": run / step}
            results.append({"repetition": repetition, "batch_size": batch_size, **rates})
            print(results[-1])
        if archive is not None:
            minutes = (time.monotonic() - begin) / 60
            write_archive(archive, NAME, given, results, minutes)
    for batch_size in config.batch_sizes:
        ratios = [line["ratio"] for line in results if line["batch_size"] == batch_size]
        print(f"batches of {batch_size}: {statistics.median(ratios):.2f} of the bare step")


def time_step(batch_size: int) -> float:
    """Images a second of the step alone."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "step.json"
        call("benchmark", "--model", "lenet5", "--batch-size", batch_size, "--json", file)
        found = json.loads(file.read_text())
    return found["images_per_second"]


def time_training(data: str, batch_size: int, config: Config) -> float:
    """Images a second of a training, from the end of its first epoch to that of its last."""
    place = [] if config.data_dir is None else ["--data-dir", config.data_dir]
    with tempfile.TemporaryDirectory() as folder:
        words = ["--data", data, "--model", "lenet5", "--batch-size", batch_size, *place]
        words += ["--augment", "--optimizer", "momentum", "--learning-rate", 0.01]
        call("train", *words, "--epochs", config.epochs, "--workdir", f"{folder}/run")
        lines = (Path(folder) / "run" / "metrics.jsonl").read_text().splitlines()
    evaluated = [line for line in map(json.loads, lines) if "test_loss" in line]
    first, last = evaluated[0], evaluated[-1]
    images = (last["step"] - first["step"]) * batch_size
    return images / (last["seconds"] - first["seconds"])


def call(*words) -> None:
    """Runs the command `convnets`."""
    command = Path(sys.executable).parent / "convnets"
    subprocess.run([command, *map(str, words)], check=True, stdout=subprocess.DEVNULL)


def table(archive: dict) -> str:
    """The table of README.md."""
    rows = [("LeNet-5 on MNIST, images/s", "`convnets train`", "bare step", "ratio")]
    for batch_size in dict.fromkeys(line["batch_size"] for line in archive["results"]):
        lines = [line for line in archive["results"] if line["batch_size"] == batch_size]
        training, step = (
            statistics.median(line[k] for line in lines) for k in ("training", "step")
        )
        ratios = [line["ratio"] for line in lines]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} - {max(ratios):.2f})"
        rows.append((f"batches of {batch_size}", f"{training:,.0f}", f"{step:,.0f}", spread))
    count = 1 + max(line["repetition"] for line in archive["results"])
    return f"{format_table(rows)}\n\n{origin(archive)} Medians of {count} repetitions."


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
