"""Augmentation on the device keeps up with training: images a second of each, by itself.

Command:    python experiments/augmentation_speed.py
Hardware:   see results/augmentation_speed.json; nothing else ought to run there
Minutes:    see results/augmentation_speed.json
Reference:  none; a network that trains faster than its augmentation waits for it
Ours:       see the table of README.md, made from results/augmentation_speed.json

Every augmentation runs with its defaults, compiled as part of `prepare` on a batch of bytes, as in
training; `none` is `prepare` alone. All take turns. Color noise is for images of three channels.
"""

import collections
import dataclasses
import statistics
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from archive import RESULTS, write_archive

from convnets import parallel
from convnets.benchmark.timing import Contestant, take_turns
from convnets.ops import image

NAME = "augmentation_speed"
SHAPES = {(28, 28, 1): 512, (32, 32, 3): 512, (224, 224, 3): 32}  # images in a batch
QUICK = {(8, 8, 3): 8}


@dataclasses.dataclass(frozen=True)
class Config:
    """Time every augmentation in turn, and archive how many images a second it makes."""

    repetitions: int = 5
    seconds: float = 1.0
    """Length of a turn, at least."""
    quick: bool = False
    """Tiny images and short turns: shows within seconds that everything runs."""
    archive: Path | None = None
    """File for the results. Default: experiments/results/augmentation_speed.json, unless --quick.
    """


def main(config: Config) -> None:
    archive = config.archive or (None if config.quick else RESULTS / f"{NAME}.json")
    given, shapes = config, SHAPES
    if config.quick:
        config, shapes = dataclasses.replace(config, repetitions=1, seconds=0.005), QUICK
    parallel.keep_memory()
    begin, results = time.monotonic(), []
    for shape, batch_size in shapes.items():
        results += measure(shape, batch_size, config)
        if archive is not None:
            minutes = (time.monotonic() - begin) / 60
            write_archive(archive, NAME, given, results, minutes)


def measure(shape, batch_size: int, config: Config) -> list[dict]:
    """Images a second of every augmentation, in every repetition."""
    images = np.random.default_rng(0).integers(0, 256, (batch_size, *shape), np.uint8)
    images, contestants = jnp.asarray(images), []
    for name, function in programs(shape[2], config.quick).items():
        run = jax.jit(function)
        jax.block_until_ready(run(images, jax.random.key(0)))
        contestants.append(Contestant(name, partial(repeat, run, images)))
    rates = take_turns(contestants, config.repetitions, config.seconds)
    results = []
    for name, steps in rates.items():
        median = batch_size * statistics.median(steps)
        print(f"{'x'.join(map(str, shape))}, {name}: {median:,.0f} images/s", flush=True)
        results += [
            {
                "repetition": repetition,
                "augmentation": name,
                "image_shape": list(shape),
                "batch_size": batch_size,
                "images_per_second": batch_size * rate,
            }
            for repetition, rate in enumerate(steps)
        ]
    return results


def programs(channels: int, hasty: bool) -> dict:
    """What is timed, by name: `f(images, key) -> images`."""
    augmentations = {"none": None, **image.AUGMENTATIONS}
    if channels != 3:
        del augmentations["color_jitter"], augmentations["pca_noise"]
    if hasty:  # compilation is what takes the time
        augmentations = {name: augmentations[name] for name in ("none", "flip", "affine")}
    found = {
        name: lambda images, key, augment=augment: image.prepare(images, None, augment, key)
        for name, augment in augmentations.items()
    }
    mixes = {"mixup": image.mixup} if hasty else image.MIXES
    for name, mix in mixes.items():
        found[name] = partial(mix_batch, mix)
    return found


def mix_batch(mix, images, key):
    images = image.to_float(images)
    return image.mix_neighbors(mix, key, images, image.swap_neighbors(images))[0]


def repeat(run, images, steps: int) -> None:
    key = jax.random.key(1)
    for _ in range(steps):
        result = run(images, key)
    jax.block_until_ready(result)


def table(archive: dict) -> str:
    """The rates as a table in Markdown: one row an augmentation, one column a shape."""
    from report import format_rate, format_table, origin

    shapes = list(dict.fromkeys(tuple(line["image_shape"]) for line in archive["results"]))
    rates = collections.defaultdict(list)
    for line in archive["results"]:
        place = line["augmentation"], tuple(line["image_shape"])
        rates[place].append(line["images_per_second"])
    rows = [("augmentation, images/s", *("x".join(map(str, shape)) for shape in shapes))]
    for name in dict.fromkeys(line["augmentation"] for line in archive["results"]):
        found = (rates.get((name, shape)) for shape in shapes)
        rates_of = (format_rate(statistics.median(each)) if each else "" for each in found)
        rows.append((f"`{name}`", *rates_of))
    count = 1 + max(line["repetition"] for line in archive["results"])
    return (
        f"{format_table(rows)}\n\n{origin(archive)} Medians of {count} turns of "
        f"{archive['settings']['seconds']:g} s."
    )


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
