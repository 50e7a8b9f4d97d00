"""Saliency, Grad-CAM and deconvnet of a photo by ResNet-50 take under 10 s together on two cores.

Command:    python experiments/look_inside_speed.py
Hardware:   two cores of an x86-64 server, no accelerator; nothing else ought to run there
Minutes:    see results/look_inside_speed.json
Reference:  none; the bound is this project's own, after compilation
Ours:       see the table of README.md, made from results/look_inside_speed.json

An image of 224x224 random bytes and fresh weights: the work is that of any photo and any weights.
Each method is called as from a notebook, from bytes to an array that is there; the first call,
which traces and compiles, is told apart from those after it.
"""

import dataclasses
import statistics
import time

import jax
import numpy as np
from cases import Common, run_cases, run_from_shell
from tables import format_table, origin

import convnets
from convnets import visualize

NAME = "look_inside_speed"
METHODS = {
    "saliency": visualize.saliency,
    "Grad-CAM": visualize.grad_cam,
    "deconvnet": visualize.deconvnet,
}


@dataclasses.dataclass(frozen=True)
class Config(Common):
    """Time what is asked of one image, and archive it."""

    model: str = "resnet50"
    repetitions: int = 5


def main(config: Config) -> None:
    used = config
    if config.quick:
        used = dataclasses.replace(config, model="lenet5", repetitions=1)
    model = convnets.create_model(used.model)
    shape = (1, *convnets.models.default_image_shape(used.model))
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    variables = jax.jit(lambda key: model.init(key, image / np.float32(255), train=False))(
        jax.random.key(0)
    )
    cases = [{"model": used.model, "method": method} for method in METHODS]
    run_cases(NAME, config, cases, lambda case, folder: run(used, model, variables, image, **case))


def run(config: Config, network, variables, image, model: str, method: str) -> dict:
    """Seconds of the first call, and of every one after it."""

    def call():
        begin = time.perf_counter()
        jax.block_until_ready(METHODS[method](network, variables, image))
        return time.perf_counter() - begin

    return {
        "first_seconds": round(call(), 3),
        "call_seconds": [round(call(), 3) for _ in range(config.repetitions)],
    }


def table(archive: dict) -> str:
    """The table of README.md."""
    rows = [
        ("ResNet-50, one image of 224x224, seconds", "first call", "median after it", "longest")
    ]
    columns = ([], [], [])
    for result in archive["results"]:
        calls = result["call_seconds"]
        found = (result["first_seconds"], statistics.median(calls), max(calls))
        rows.append((result["method"], *(f"{value:.2f}" for value in found)))
        for column, value in zip(columns, found):
            column.append(value)
    rows.append(("together", *(f"{sum(column):.2f}" for column in columns)))
    repetitions = archive["settings"]["repetitions"]
    return f"{format_table(rows)}\n\n{origin(archive)} {repetitions} calls of each."


if __name__ == "__main__":
    run_from_shell(NAME, main, Config)
