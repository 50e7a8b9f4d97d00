"""A classifier as a convolution is several times faster on a large image than a sliding window.

Command:    python experiments/fully_convolutional.py
Hardware:   see results/fully_convolutional.json; nothing else ought to run there
Minutes:    see results/fully_convolutional.json
Reference:  Collobert's lecture (2015) says "much faster than sliding windows", without a number
Ours:       see the table of README.md, made from results/fully_convolutional.json

Both answer at the same places of one image, the backbone's stride apart: `to_fully_convolutional`
in one pass, and the classifier for every crop, cut out and computed in large batches. They take
turns. `difference` is the largest between their logits, in units of the largest: rounding for
LeNet-1, which has no padding; in the others crops see zeros beyond their borders.
"""

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
from jax import lax
from tables import format_table, origin

from convnets import create_model, feature_info, parallel, to_fully_convolutional
from convnets.benchmark.timing import Contestant, take_turns
from convnets.models import default_image_shape

NAME = "fully_convolutional"
SIDES = {"lenet1": 256, "lenet5": 256, "alexnet": 352}  # pixels of the larger image


@dataclasses.dataclass(frozen=True)
class Config:
    """Time a pass over a large image and its sliding window in turn, and archive both rates."""

    batch_size: int = 512
    """Crops that the sliding window computes at once, at most."""
    repetitions: int = 5
    seconds: float = 2.0
    """Length of a turn, at least."""
    quick: bool = False
    """LeNet-1 and short turns: shows within seconds that everything runs."""
    archive: Path | None = None
    """File for the results. Default: experiments/results/fully_convolutional.json, unless --quick.
    """


def main(config: Config) -> None:
    archive = config.archive or (None if config.quick else RESULTS / f"{NAME}.json")
    given, sides = config, SIDES
    if config.quick:
        config, sides = dataclasses.replace(config, repetitions=1, seconds=0.02), {"lenet1": 48}
    parallel.keep_memory()
    begin, results = time.monotonic(), []
    for name, side in sides.items():
        results += compare(name, side, config)
        print(results[-1])
        if archive is not None:
            write_archive(archive, NAME, given, results, (time.monotonic() - begin) / 60)


def compare(name: str, side: int, config: Config) -> list[dict]:
    """Images a second of both, in every repetition."""
    model, (height, width, channels) = create_model(name), default_image_shape(name)
    stride = feature_info(name)[-1].stride
    image = jax.random.normal(jax.random.key(0), (1, side, side, channels))
    init = jax.jit(partial(model.init, train=False))
    variables = init(jax.random.key(1), image[:, :height, :width])
    whole_model, whole_variables = to_fully_convolutional(model, variables)
    whole = partial(jax.jit(partial(whole_model.apply, train=False)), whole_variables)
    logits = whole(image)
    places = stride * np.argwhere(np.ones(logits.shape[1:3], bool))
    batches = np.array_split(places, -(-len(places) // config.batch_size))
    size = (height, width)
    classify = partial(jax.jit(partial(classify_crops, model), static_argnums=1), variables, size)
    sliding = partial(slide, classify, [jnp.asarray(batch) for batch in batches])
    expected = sliding(image).reshape(logits.shape)
    difference = float(abs(logits - expected).max() / abs(expected).max())
    rates = take_turns(
        [
            Contestant("whole", partial(repeat, whole, image)),
            Contestant("sliding", partial(repeat, sliding, image)),
        ],
        config.repetitions,
        config.seconds,
    )
    return [
        {
            "repetition": repetition,
            "model": name,
            "image_shape": [side, side, channels],
            "stride": stride,
            "places": list(logits.shape[1:3]),
            "whole": one,
            "sliding": other,
            "ratio": one / other,
            "difference": difference,
        }
        for repetition, (one, other) in enumerate(zip(rates["whole"], rates["sliding"]))
    ]


def slide(classify, places, image):
    """The logits of the crops at all places, a batch of them at a time, `[N, num_classes]`."""
    return jnp.concatenate([classify(image, batch) for batch in places])


def classify_crops(model, variables, size, image, places):
    """The logits of the crops of one image whose corners are at `places [N, 2]`."""

    def crop(place):
        return lax.dynamic_slice(image[0], (*place, 0), (*size, image.shape[3]))

    return model.apply(variables, jax.vmap(crop)(places), train=False)


def repeat(function, image, steps: int) -> None:
    for _ in range(steps):
        logits = function(image)
    jax.block_until_ready(logits)


def table(archive: dict) -> str:
    """The table of README.md."""
    rows = [("images/s", "image", "places", "in one pass", "sliding window", "ratio")]
    for model in dict.fromkeys(line["model"] for line in archive["results"]):
        lines = [line for line in archive["results"] if line["model"] == model]
        whole, sliding, ratio = (
            [line[name] for line in lines] for name in ("whole", "sliding", "ratio")
        )
        spread = f"{statistics.median(ratio):.1f} ({min(ratio):.1f} - {max(ratio):.1f})"
        rates = (f"{statistics.median(rates):.3g}" for rates in (whole, sliding))
        size = "x".join(map(str, lines[0]["image_shape"]))
        places = "x".join(map(str, lines[0]["places"]))
        rows.append((model, size, places, *rates, spread))
    count = 1 + max(line["repetition"] for line in archive["results"])
    return (
        f"{format_table(rows)}\n\n{origin(archive)} Medians of {count} repetitions; a ratio is the "
        "median of the pairs' (in brackets the least and the most)."
    )


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
