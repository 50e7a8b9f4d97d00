"""A gradual warm-up makes batches bearable, at a rate proportional to them, that else are lost.

Command:    python experiments/large_minibatch.py --data-dir DIR    (DIR holds TFDS's fashion_mnist)
Hardware:   see results/large_minibatch.json
Minutes:    see there
Reference:  Goyal et al. 2017, "Accurate, large minibatch SGD", tables 1 and 2, figure 1: 23.60 %
            error on ImageNet at 256, 23.74 % at 8192, without warm-up 24.84 %, worse from 16k on
Ours:       see the table and the figure of README.md, made from results/large_minibatch.json

LeNet-5 on Fashion-MNIST, momentum 0.9, 10 epochs, cosine. The rate is 0.04 for 64 images and grows
with the batch ("scaled"), or stays ("fixed"). Warm-up lasts one epoch: "gradual" from 64 images'
rate up to the batch's, "constant" at 64 images' rate, or "none". There is no batch norm in this
network, so that a rate that is too large early on is seen at once; without it the paper's other
remedies (last scales of zero, groups of the workers' size) do not arise.
"""

import dataclasses
import statistics

from archive import summarize_run
from cases import Common, can_go_on, require_whole, run_cases, run_from_shell
from tables import format_table, origin

import convnets

NAME = "large_minibatch"
BASE, GUESSING = 64, 85  # images in the smallest batch; error in %, of one that learned nothing
WAYS = {  # how the rate grows with the batch, and the warm-up
    "scaled, gradual": (True, "gradual"),
    "scaled, none": (True, None),
    "scaled, constant": (True, "constant"),
    "fixed, none": (False, None),
}


@dataclasses.dataclass(frozen=True)
class Config(Common):
    """Train with batches of 64 to 8192 images in four ways, and archive the test errors."""

    seeds: tuple[int, ...] = (0, 1, 2)
    batch_sizes: tuple[int, ...] = (64, 128, 256, 512, 1024, 2048, 4096, 8192)
    epochs: float = 10
    warmup_epochs: float = 1
    learning_rate: float = 0.04
    """For 64 images."""


def main(config: Config) -> None:
    small = {"batch_sizes": (64, 128), "epochs": 0.1, "warmup_epochs": 0.05, "seeds": (0,)}
    used = dataclasses.replace(config, **small) if config.quick else config
    dataset = convnets.load_dataset(
        "digits" if config.quick else "fashion_mnist", data_dir=config.data_dir
    )
    cases = [
        {"way": way, "batch_size": batch_size, "seed": seed}
        for seed in used.seeds
        for batch_size in used.batch_sizes
        for way in WAYS
        if batch_size > BASE or way == "scaled, none"
    ]
    run_cases(NAME, config, cases, lambda case, folder: run(used, dataset, folder, **case))


def run(config: Config, dataset, folder, way: str, batch_size: int, seed: int) -> dict:
    """One training; where the loss does not stay finite, the error of a guess."""
    scaled, warmup = WAYS[way]
    rate = config.learning_rate
    if scaled:
        rate = convnets.linear_scaling(rate, batch_size, base=BASE)
    steps = round(config.epochs * len(dataset.train) / batch_size)
    warmup_steps = round(config.warmup_epochs * len(dataset.train) / batch_size)
    try:
        result = convnets.fit(
            convnets.create_model("lenet5", num_classes=dataset.num_classes),
            dataset,
            steps=max(steps, 2),
            batch_size=batch_size,
            optimizer="momentum",
            learning_rate=rate,
            warmup=warmup_steps if warmup else 0,
            warmup_kind=warmup or "gradual",
            warmup_rate=config.learning_rate if warmup else None,
            augment="none",
            seed=seed,
            evaluate_every=max(steps, 2),
            progress=False,
            **can_go_on(folder, config),
        )
    except convnets.NotFiniteError:
        return {"test_error_percent": None, "lost": True}
    require_whole(result)
    found = summarize_run(result.history)
    return {**found, "lost": found["test_error_percent"] >= GUESSING}


def errors(archive: dict, way: str, batch_size: int) -> tuple[list[float], int]:
    """Of the seeds that learned something, and how many were lost."""
    if batch_size == BASE:
        way = "scaled, none"
    lines = [x for x in archive["results"] if (x["way"], x["batch_size"]) == (way, batch_size)]
    lost = sum(line["lost"] for line in lines)
    return [line["test_error_percent"] for line in lines if not line["lost"]], lost


def deviation(found: list[float]) -> float:
    return statistics.stdev(found) if len(found) > 1 else 0.0


def is_covered(archive: dict, batch_size: int) -> bool:
    """Whether a batch, scaled and with gradual warm-up, loses no seed, and its mean error is within
    one deviation of the seeds at 64 images of their mean; none is where all those are lost."""
    base, _ = errors(archive, "scaled, none", BASE)
    found, lost = errors(archive, "scaled, gradual", batch_size)
    if not base or not found or lost:
        return False
    return statistics.mean(found) <= statistics.mean(base) + deviation(base)


def covered(archive: dict) -> int:
    """The largest batch that is covered."""
    sizes = archive["settings"]["batch_sizes"]
    return max((b for b in sizes if is_covered(archive, b)), default=BASE)


def gaps(archive: dict) -> str:
    """The batches below the largest covered one that are not within the deviation."""
    smaller = [b for b in archive["settings"]["batch_sizes"] if BASE < b < covered(archive)]
    missed = [str(b) for b in smaller if not is_covered(archive, b)]
    return f", though {', '.join(missed)} is not" if missed else ""


def table(archive: dict) -> str:
    """The table of README.md."""
    rows = [("Fashion-MNIST, batch", *WAYS)]
    for batch_size in archive["settings"]["batch_sizes"]:
        rows.append(
            (f"{batch_size}", *(format_errors(*errors(archive, w, batch_size)) for w in WAYS))
        )
    return (
        f"{format_table(rows)}\n\n{origin(archive)} Test error in %, mean and deviation of the "
        "seeds that learned something; lost: that ended where guessing is. Scaled with gradual "
        f"warm-up, the largest batch within one deviation of {BASE} is {covered(archive)}"
        f"{gaps(archive)}."
    )


def format_errors(found: list[float], lost: int) -> str:
    spread = f" ± {deviation(found):.2f}" if len(found) > 1 else ""
    parts = [f"{statistics.mean(found):.2f}{spread}"] if found else []
    return ", ".join(parts + ([f"{lost} lost"] if lost else []))


def figure(archive: dict):
    """Mean test error by batch, a line for each way."""
    import matplotlib.pyplot as plt

    drawn, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    for index, way in enumerate(WAYS):
        found = {b: errors(archive, way, b) for b in archive["settings"]["batch_sizes"]}
        learned = {b: x for b, (x, _) in found.items() if x}
        means = [statistics.mean(x) for x in learned.values()]
        spread = [deviation(x) for x in learned.values()]
        lines = axis.errorbar(
            list(learned), means, spread, marker="o", markersize=3, capsize=3, label=way
        )
        lost = [b for b, (_, count) in found.items() if count]
        height = GUESSING * 0.92**index  # one above the other
        axis.plot(lost, [height] * len(lost), "x", color=lines[0].get_color())
    axis.set_xscale("log", base=2)
    axis.set_xticks(archive["settings"]["batch_sizes"], archive["settings"]["batch_sizes"])
    axis.set_xlabel("images in a batch")
    axis.set_ylabel("test error on Fashion-MNIST [%]")
    axis.set_yscale("log")
    middle = GUESSING * 0.92 ** ((len(WAYS) - 1) / 2)
    axis.set_yticks([8, 10, 15, 20, 40, middle], [8, 10, 15, 20, 40, "lost (x)"])
    axis.minorticks_off()
    axis.legend(title="rate, warm-up", loc="center left")
    axis.grid(alpha=0.3)
    return drawn


if __name__ == "__main__":
    run_from_shell(NAME, main, Config)
