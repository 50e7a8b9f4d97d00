"""Photos are decoded, cropped and resized for training faster than by PyTorch's DataLoader.

Command:    python experiments/input_path.py --data-dir DIR   (DIR holds photos as .jpg files)
Hardware:   two cores of an AMD EPYC server, shared with other work
Minutes:    8.3
Reference:  torch's DataLoader over Pillow, and tf.data, doing the same work on the same files
Ours:       see the table of README.md, made from results/input_path.json

The work is that of input_loaders.py: random parts of JPEG files, antialiased to 224x224, mirrored
or not, as uint8 batches. The photos are one for each class of ImageNet, with a short side of 256
pixels; "twice the size" are a part of them enlarged to a short side of 512 and encoded anew, which
is nearer to the size that ImageNet has. Every measurement is a process of its own, of which the
median of five parts counts; those that are compared follow each other, and ratios are medians over
the repetitions. A peer that is not installed is left out. `workers` 0 decodes in threads here, and
in one thread in PyTorch, as each does by default; tf.data has as many threads as there are cores.
"""

import contextlib
import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import tyro
from archive import RESULTS, settings, write_archive
from tables import format_table, origin

NAME = "input_path"
LOADERS = Path(__file__).with_name("input_loaders.py")


@dataclasses.dataclass(frozen=True)
class Config:
    """Measure how many images a second come out of three loaders."""

    repetitions: int = 5
    workers: tuple[int, ...] = (0, 1, 2)
    """Processes that load; one measurement for each."""
    batch_size: int = 64
    batches: int = 8
    """Batches in each of the five parts of a measurement, whose median counts."""
    enlarged: int = 300
    """How many of the photos are measured at twice the size, too."""
    quick: bool = False
    """A few made-up photos, one repetition: shows within seconds that everything runs."""
    data_dir: Path | None = None
    """Folder with the photos."""
    tensorflow: str = sys.executable
    """A Python that has TensorFlow, where this one has not."""
    archive: Path | None = None
    """File for the results. Default: experiments/results/input_path.json for the settings above
    as they are; with others, none."""


def main(config: Config) -> None:
    archive = config.archive
    if archive is None and settings(config) == settings(Config()):
        archive = RESULTS / f"{NAME}.json"
    if config.data_dir is None and not config.quick:
        raise SystemExit(f"{NAME}: --data-dir names the folder with the photos")
    config, given = with_budget(config), config
    begin = time.monotonic()
    results = []
    with contextlib.ExitStack() as stack:
        sets = prepare_photos(config, stack)
        for repetition in range(config.repetitions):
            for name, folder in sets.items():
                results.append({"repetition": repetition, "photos": name, **run(config, folder)})
                print(results[-1], flush=True)
                if archive is not None:
                    minutes = (time.monotonic() - begin) / 60
                    write_archive(archive, NAME, given, results, minutes)
    for name in sets:
        rates = [line["images_per_second"] for line in results if line["photos"] == name]
        for loader in rates[0]:
            median = statistics.median(rate[loader] for rate in rates)
            print(f"{name}, {loader}: {median:,.0f} images/s")


def with_budget(config: Config) -> Config:
    if not config.quick:
        return config
    return dataclasses.replace(
        config, repetitions=1, workers=(0,), batch_size=8, batches=1, enlarged=0
    )


def prepare_photos(config: Config, stack) -> dict[str, Path]:
    """The folders to measure, by name."""
    import cv2
    import numpy as np

    scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    if config.data_dir is None:
        pixels = np.random.default_rng(0).integers(0, 256, (16, 256, 341, 3), np.uint8)
        for number, image in enumerate(pixels):
            cv2.imwrite(f"{scratch}/{number}.jpg", image)
        return {"made up": scratch}
    paths = sorted(config.data_dir.glob("*.jpg"))
    if not paths:
        raise SystemExit(f"{NAME}: there are no .jpg files in {config.data_dir}")
    for path in paths[:: max(1, len(paths) // config.enlarged)]:
        image = cv2.imread(str(path))
        large = cv2.resize(image, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(scratch / path.name), large, [cv2.IMWRITE_JPEG_QUALITY, 90])
    return {"as they are": config.data_dir, "twice the size": scratch}


def run(config: Config, folder: Path) -> dict:
    """One repetition: every loader after the other."""
    asked = [(name, count) for count in config.workers for name in ("convnets", "torch")]
    rates, parts, versions, missing = {}, {}, {}, {}
    for name, count in [*asked, ("tensorflow", 0)]:
        python = config.tensorflow if name == "tensorflow" else sys.executable
        words = [name, folder, count, config.batch_size, config.batches]
        done = subprocess.run(
            [python, LOADERS, *map(str, words)], check=True, stdout=subprocess.PIPE, text=True
        )
        found = json.loads(done.stdout.splitlines()[-1])
        if "missing" in found:
            missing[name] = found["missing"]
            continue
        label = name if name == "tensorflow" else f"{name}, {count} workers"
        parts[label], versions[name] = found["images_per_second"], found["version"]
        rates[label] = statistics.median(parts[label])
    return {
        "images_per_second": rates,
        "parts": parts,
        "versions": versions,
        "missing": missing,
    }


def table(archive: dict) -> str:
    """The table of README.md."""
    rows = [("photos, images/s", "here", "`DataLoader`", "ratio", "`tf.data`", "ratio")]
    for photos in dict.fromkeys(line["photos"] for line in archive["results"]):
        lines = [x["images_per_second"] for x in archive["results"] if x["photos"] == photos]
        for workers in archive["settings"]["workers"]:
            if f"convnets, {workers} workers" not in lines[0]:
                continue
            ours = [rates[f"convnets, {workers} workers"] for rates in lines]
            row = [f"{photos}, {workers} workers", f"**{statistics.median(ours):,.0f}**"]
            for peer in (f"torch, {workers} workers", "tensorflow"):
                theirs = [rates.get(peer) for rates in lines]
                if None in theirs or (peer == "tensorflow" and workers):
                    row += ["", ""]
                    continue
                ratio = statistics.median(a / b for a, b in zip(ours, theirs))
                row += [f"{statistics.median(theirs):,.0f}", f"{ratio:.2f}"]
            rows.append(tuple(row))
    count = 1 + max(line["repetition"] for line in archive["results"])
    versions = archive["results"][0]["versions"]
    peers = ", ".join(f"{name} {versions[name]}" for name in versions if name != "convnets")
    return (
        f"{format_table(rows)}\n\n{origin(archive)} Medians of {count} repetitions, and of the "
        f"ratios in each; {peers}."
    )


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
