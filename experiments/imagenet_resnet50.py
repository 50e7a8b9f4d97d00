"""ResNet-50 on ImageNet in batches of 256 to 8192 images, by the recipe of Goyal et al.

Command:    python experiments/imagenet_resnet50.py                  (the short form, see below)
            python experiments/imagenet_resnet50.py --data imagenet2012 --data-dir DIR
            python experiments/imagenet_resnet50.py --data folder:PATH --batch-size 8192
            and on each of 32 hosts, unless a cluster such as Slurm says so by itself,
              --coordinator HOST:PORT --num-processes 32 --process-id 0 … 31
Hardware:   see results/imagenet_resnet50.json for the short form; the whole recipe takes the paper
            256 GPUs for an hour at 8192, and 8 for 29 hours at 256
Minutes:    see there
Reference:  Goyal et al. 2017, "Accurate, large minibatch SGD: training ImageNet in 1 hour", table
            1: 23.60 % ± 0.12 validation error at 256, 23.74 % ± 0.09 at 8192, medians of the last
            five epochs' errors, five runs each
Ours:       of the short form, see the table of README.md; of the whole recipe none, for want of the
            images and the machines

The recipe (sections 2, 3 and 5.1 of the paper): the rate is 0.1 for 256 images and proportional to
the batch; over the first 5 of 90 epochs it rises step by step from 0.1 to that; after 30, 60 and 80
epochs it falls to a tenth. Nesterov momentum of 0.9, its velocity not yet multiplied by the rate
(equation 9: `optax.sgd`), so that no correction is due where the rate changes; the lectures'
momentum, and `--optimizer nesterov` here, keep a velocity that is (equation 10), which goes on at
the old rate after a change. Weight decay 0.0001 on kernels only. Batch norm takes its statistics
over groups of 32 images, whatever the devices; the last scale of each block starts at zero, the
last layer's kernel with a deviation of 0.01. Training sees random parts of the images (8 to 100 %
of the area, aspects of 3/4 to 4/3) and their mirror images; the paper names no change of color. The
test sees the center 224x224 of each image scaled to 256, and counts every image once.
Differs: the last layer's bias does not decay.

The short form learns 64 images of 64 classes by heart, at half the side: in 30 epochs of 2 batches,
with warm-up and falls at the same shares of them, at the rate of 0.1 itself, without crops and
mirror images, and tested on the same 64. It shows that network, groups, optimizer and schedule
learn, not what they would reach.
"""

import csv
import dataclasses
import math
import os
import statistics
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from cases import Common, can_go_on, require_whole, run_cases, run_from_shell
from tables import format_table, origin

import convnets
from convnets import parallel
from convnets.data import Source, read_image
from convnets.parsing import ProcessOptions, connect
from convnets.training.selection import kernels

NAME = "imagenet_resnet50"
RATE, BASE, MOMENTUM, DECAY, GROUP = 0.1, 256, 0.9, 1e-4, 32
EPOCHS, WARMUP, DROPS = 90, 5, (30, 60, 80)
CENTER = 224 / 256  # of the shorter side, what is tested
LAST = 5  # epochs whose median error counts
SAMPLE = "imagenet_sample_1000"  # a folder with images/*.jpg, short side 256, and labels.csv


@dataclasses.dataclass(frozen=True)
class Config(ProcessOptions, Common):
    """Train ResNet-50 by Goyal's recipe, or its short form, and archive the test errors."""

    data: str = "sample"
    """imagenet2012 (of TensorFlow Datasets) or folder:PATH for the whole recipe; sample or
    sample:PATH for the short form on 64 of ImageNet's images, found below CONVNETS_SHARED."""
    batch_size: int = 256
    """Images in a batch, over all devices: 256 to 8192. The short form takes 32."""
    seeds: tuple[int, ...] = (0,)
    workers: int = 0
    """Processes that decode images; 0: threads."""
    precision: str = "float32"
    """float32 or bfloat16."""
    parallel: str = "jit"
    """jit, shard_map or pmap."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What differs between the whole recipe, its short form and a quick look."""

    model: str = "resnet50"
    batch_size: int = 256
    base: int = BASE
    """Images in the batch that has the rate of 0.1."""
    group: int = GROUP
    epochs: int = EPOCHS
    augment: tuple[str, ...] = ("random_resized_crop", "flip")
    evaluate_epochs: int = 1
    """Epochs between evaluations."""


def main(config: Config) -> None:
    connect(config)
    with parallel.ending_together(), tempfile.TemporaryDirectory() as scratch:
        recipe, dataset = choose(config, scratch)
        cases = [{"batch_size": recipe.batch_size, "seed": seed} for seed in config.seeds]

        def run_case(case, folder):
            return run(config, recipe, dataset, folder, case["seed"])

        run_cases(NAME, config, cases, run_case)


def choose(config: Config, scratch: str):
    """The recipe and the images that the settings ask for."""
    if config.quick:
        write_noise(scratch)
        whole = math.lcm(2, jax.device_count())  # groups, and shares of devices
        batch_size = math.ceil(4 / whole) * whole
        recipe = Recipe("resnet18", batch_size=batch_size, base=batch_size, group=2, epochs=1)
        noise = load_whole(f"folder:{scratch}", size=32)
        return recipe, dataclasses.replace(noise, name="noise")  # of another folder on each host
    if config.data.partition(":")[0] == "sample":  # 60 steps, at the rate of 256 images
        recipe = Recipe(batch_size=32, base=32, epochs=30, augment=(), evaluate_epochs=5)
        return recipe, load_sample(config.data.partition(":")[2])
    return Recipe(batch_size=config.batch_size), load_whole(config.data, config.data_dir)


def run(config: Config, recipe: Recipe, dataset, folder, seed: int) -> dict:
    """One training."""
    model = convnets.create_model(recipe.model, num_classes=dataset.num_classes)
    epoch = math.ceil(len(dataset.train) / recipe.batch_size)
    optimizer = create_optimizer(recipe, len(dataset.train) / recipe.batch_size)
    going_on = can_go_on(folder, config)
    result = convnets.fit(
        model,
        dataset,
        variables=None if going_on["resume"] else create_variables(model, dataset, seed),
        epochs=recipe.epochs,
        batch_size=recipe.batch_size,
        optimizer=optimizer,
        augment=recipe.augment,
        batch_norm_group=recipe.group,
        seed=seed,
        precision=config.precision,
        parallel=config.parallel,
        workers=config.workers,
        evaluate_every=recipe.evaluate_epochs * epoch,
        **going_on,
    )
    require_whole(result)
    return summarize(result.history)


def create_optimizer(recipe: Recipe, steps_per_epoch: float) -> optax.GradientTransformation:
    """Decayed kernels, Nesterov momentum in equation 9's form, the paper's rates."""
    peak = convnets.linear_scaling(RATE, recipe.batch_size, base=recipe.base)
    return optax.chain(
        optax.add_decayed_weights(DECAY, mask=kernels),
        optax.sgd(create_schedule(peak, steps_per_epoch, recipe.epochs), MOMENTUM, nesterov=True),
    )


def create_schedule(peak: float, steps_per_epoch: float, epochs: int = EPOCHS):
    """The rate by the number of updates before.

    A run of other than 90 epochs has its warm-up and its falls at the same shares of it.
    """

    def steps(epoch):
        return round(epoch * epochs / EPOCHS * steps_per_epoch)

    warmup = steps(WARMUP)
    falls = {steps(epoch) - warmup: 0.1 for epoch in DROPS}
    rise = optax.linear_schedule(min(RATE, peak), peak, max(warmup, 1))
    return optax.join_schedules([rise, optax.piecewise_constant_schedule(peak, falls)], [warmup])


def create_variables(model, dataset, seed: int) -> dict:
    """Random ones; in the last layer with a deviation of 0.01."""
    init_key, head_key = jax.random.split(jax.random.key(seed))
    images = jnp.zeros((1, *dataset.image_shape))
    variables = jax.jit(model.init, static_argnames="train")(init_key, images, train=False)
    shape = variables["params"]["head"]["kernel"].shape
    variables["params"]["head"]["kernel"] = 0.01 * jax.random.normal(head_key, shape)
    return variables


def summarize(history: list[dict]) -> dict:
    """The errors of all evaluations, and the median of the last ones as the paper takes it."""
    tests = [line for line in history if "test_accuracy" in line]
    errors = [round(100 * (1 - line["test_accuracy"]), 4) for line in tests]
    return {
        "test_error_percent": statistics.median(errors[-LAST:]),
        "last_error_percent": errors[-1],
        "test_examples": tests[-1]["test_examples"],
        "errors": [{"epoch": line["epoch"], "percent": e} for line, e in zip(tests, errors)],
        "epochs": tests[-1]["epoch"],
        "seconds": round(tests[-1]["seconds"], 1),
    }


class Center(Source):
    """The same images, of each the center `CENTER` of the shorter side, as it is tested.

    What a source's own images show of files is all of the shorter side; this cuts the files anew.
    """

    def __init__(self, source: Source):
        self._files = source.original
        self.image_shape, self.labels = source.image_shape, source.labels

    def __len__(self) -> int:
        return len(self._files)

    def batch(self, indices, crops=None) -> dict[str, np.ndarray]:
        return self._files.batch(indices, [center] * len(indices) if crops is None else crops)

    def select(self, indices) -> "Center":
        return Center(self._files.select(indices))


def center(height: int, width: int) -> tuple[int, int, int, int]:
    """The box whose resizing is the center crop of the image scaled to 256."""
    side = round(CENTER * min(height, width))
    top, left = (height - side) // 2, (width - side) // 2
    return top, left, top + side, left + side


def load_whole(data: str, data_dir: str | None = None, size: int = 224):
    """ImageNet, or a folder like it, tested on centers."""
    dataset = convnets.load_dataset(data, data_dir=data_dir, image_size=size)
    tested = {name: Center(x) for name, x in dataset.splits.items() if name != "train"}
    return dataclasses.replace(dataset, **tested)


def load_sample(path: str, count: int = 64, size: int = 112):
    """Every fifteenth class of the sample, in a folder of its own or below CONVNETS_SHARED: to
    learn and to be tested on."""
    folder = Path(path or Path(os.environ.get("CONVNETS_SHARED", ""), "data", SAMPLE))
    try:
        rows = list(csv.DictReader((folder / "labels.csv").read_text().splitlines()))
    except OSError:
        raise convnets.UserError(
            f"there is no {folder / 'labels.csv'}: name the folder of the sample, as "
            "--data sample:PATH, or the one above it by CONVNETS_SHARED; the whole recipe takes "
            "--data imagenet2012 or folder:PATH"
        ) from None
    rows = rows[:: len(rows) // count][:count]
    whole = round(size / CENTER)
    edge = (whole - size) // 2
    images = [read_image(folder / "images" / row["file"], (whole, whole, 3)) for row in rows]
    images = np.stack(images)[:, edge : edge + size, edge : edge + size]
    labels, names = np.arange(count), [row["class_name"] for row in rows]
    return convnets.dataset_from_arrays(
        images, labels, images, labels, class_names=names, name=SAMPLE
    )


def write_noise(folder: str) -> None:
    """Files of two classes, for a quick look at what is read from files."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("test", 3)):
        for name in ("a", "b"):
            place = Path(folder, split, name)
            place.mkdir(parents=True)
            for number in range(count):
                noise = Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8))
                noise.save(place / f"{number}.jpg")


def table(archive: dict) -> str:
    """The table of README.md."""
    rows = [("64 of ImageNet's images, by heart", "epoch", "error of the 64")]
    for line in archive["results"]:
        for found in line["errors"]:
            rows.append(
                (f"seed {line['seed']}", f"{found['epoch']:.0f}", f"{found['percent']:.1f} %")
            )
    return f"{format_table(rows)}\n\n{origin(archive)}"


if __name__ == "__main__":
    run_from_shell(NAME, main, Config)
