"""Augmentation on the device keeps up with training: images a second of each, by itself.

Command:    python experiments/augmentation_speed.py
Hardware:   see results/augmentation_speed.json; nothing else ought to run there
Minutes:    see results/augmentation_speed.json
Reference:  none; a network that trains faster than its augmentation waits for it
Ours:       see the table of README.md, made from results/augmentation_speed.json

Every augmentation runs with its defaults, compiled as part of `prepare` on a batch of bytes, as in
training; `none` is `prepare` alone. All take turns. Color noise is for images of three channels.
"""

import dataclasses
import statistics
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from cases import Common, run_cases, run_from_shell
from tables import format_rate, format_table, origin

from convnets import parallel
from convnets.benchmark.timing import Contestant, take_turns
from convnets.ops import image

NAME = "augmentation_speed"
SHAPES = [((28, 28, 1), 512), ((32, 32, 3), 512), ((224, 224, 3), 32)]  # images in a batch
QUICK = [((8, 8, 3), 8)]


@dataclasses.dataclass(frozen=True)
class Config(Common):
    """Time every augmentation in turn, and archive how many images a second it makes."""

    repetitions: int = 5
    seconds: float = 1.0
    """Length of a turn, at least."""


def main(config: Config) -> None:
    used, shapes = config, SHAPES
    if config.quick:
        used, shapes = dataclasses.replace(config, repetitions=1, seconds=0.005), QUICK
    parallel.keep_memory()
    cases = [{"image": "x".join(map(str, shape)), "batch_size": size} for shape, size in shapes]
    run_cases(NAME, config, cases, lambda case, folder: run(used, **case))


def run(config: Config, image: str, batch_size: int) -> dict:
    """Images a second of every augmentation, in every repetition."""
    shape = [int(side) for side in image.split("x")]
    images = np.random.default_rng(0).integers(0, 256, (batch_size, *shape), np.uint8)
    images, contestants = jnp.asarray(images), []
    for name, function in programs(shape[2], config.quick).items():
        program = jax.jit(function)
        jax.block_until_ready(program(images, jax.random.key(0)))
        contestants.append(Contestant(name, partial(repeat, program, images)))
    rates = take_turns(contestants, config.repetitions, config.seconds)
    return {
        "images_per_second": {
            name: [float(f"{batch_size * rate:.4g}") for rate in steps]
            for name, steps in rates.items()
        }
    }


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
    """The table of README.md."""
    results = archive["results"]
    names = dict.fromkeys(name for result in results for name in result["images_per_second"])
    rows = [("augmentation, images/s", *(result["image"] for result in results))]
    for name in names:
        found = [result["images_per_second"].get(name) for result in results]
        medians = [format_rate(statistics.median(each)) if each else "" for each in found]
        rows.append((f"`{name}`", *medians))
    settings = archive["settings"]
    return (
        f"{format_table(rows)}\n\n{origin(archive)} Medians of {settings['repetitions']} turns of "
        f"{settings['seconds']:g} s."
    )


if __name__ == "__main__":
    run_from_shell(NAME, main, Config)
