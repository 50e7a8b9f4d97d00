"""`convnets train` with no option reaches at least 98.5 % on the embedded digits, in seconds.

Command:    python experiments/digits_defaults.py
Hardware:   two cores of an x86-64 server, no accelerator
Minutes:    under one
Reference:  none; the claim is the package's own, for every seed
Ours:       see the table of README.md, made from results/digits_defaults.json

Each repetition runs the command as a user does, in a process of its own; `seconds` are those of the
training, compilation included, and `process_seconds` those of the whole command.
"""

import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import tyro
from archive import RESULTS, write_archive
from tables import format_table, origin

NAME = "digits_defaults"


@dataclasses.dataclass(frozen=True)
class Config:
    """Train with the defaults, once for each seed, and archive what each run reaches."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """One run for each."""
    quick: bool = False
    """One seed and one epoch: shows within seconds that everything runs."""
    archive: Path | None = None
    """File for the results. Default: experiments/results/digits_defaults.json, unless --quick."""


def main(config: Config) -> None:
    archive = config.archive or (None if config.quick else RESULTS / f"{NAME}.json")
    extra = ["--epochs", "1"] if config.quick else []
    results = []
    for seed in config.seeds[:1] if config.quick else config.seeds:
        results.append(run(seed, extra))
        print(results[-1])
        if archive is not None:
            minutes = sum(repetition["process_seconds"] for repetition in results) / 60
            write_archive(archive, NAME, config, results, minutes)


def run(seed: int, extra: list[str]) -> dict:
    """One run of the command; its numbers are read from the run's folder."""
    command = Path(sys.executable).parent / "convnets"
    with tempfile.TemporaryDirectory() as folder:
        begin = time.monotonic()
        words = [command, "train", "--seed", str(seed), "--workdir", f"{folder}/run", *extra]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        elapsed = time.monotonic() - begin
        lines = (Path(folder) / "run" / "metrics.jsonl").read_text().splitlines()
    last = json.loads(lines[-1])
    return {
        "seed": seed,
        "test_accuracy": last["test_accuracy"],
        "test_examples": last["test_examples"],
        "epochs": last["epoch"],
        "seconds": round(last["seconds"], 1),
        "process_seconds": round(elapsed, 1),
    }


def table(archive: dict) -> str:
    """The table of README.md."""
    head = ("digits, `convnets train`", "test accuracy", "training", "whole command")
    rows = [
        (
            f"seed {repetition['seed']}",
            f"{100 * repetition['test_accuracy']:.2f} %",
            f"{repetition['seconds']:.0f} s",
            f"{repetition['process_seconds']:.0f} s",
        )
        for repetition in archive["results"]
    ]
    return f"{format_table([head, *rows])}\n\n{origin(archive)}"


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
