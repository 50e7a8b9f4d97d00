"""Plain networks get worse with depth, in training too; residual ones begun as identities better.

Command:    python experiments/plain_versus_residual.py --data-dir DIR   (DIR holds TFDS's cifar10)
Hardware:   see results/plain_versus_residual.json
Minutes:    see there, on a core that did other work besides; the paper's own schedule is
            `--steps 64000`
Reference:  He, Zhang, Ren, Sun 2015, "Deep residual learning", section 4.2, figure 6 and table 6:
            test error 8.75, 7.51, 7.17, 6.97 % of ResNet-20, 32, 44, 56 after 64,000 steps
Ours:       see the figure of README.md, made from results/plain_versus_residual.json

Batches of 128, crops and flips, momentum 0.9 at a rate of 0.1, weight decay 1e-4, the rate divided
by 10 after half and after three quarters of the steps, as in the paper, but a twentieth of its
steps. The images of CIFAR-10 at hand are encoded anew as JPEG (quality 75), on which every network
is a little worse than on the original. `train_error_percent` is measured on the training split
without augmentation, with running statistics, after the last step; the curves are those of the
batches on their way through training, as in the paper's figure.

In so few steps the deeper of the paper's residual networks is behind: all branches of its blocks
add up at the start, and one epoch of 391 steps is lost on that. So the residual networks are
trained a second time with the last scale of every block zero at the start (Goyal et al. 2017,
section 5.1), which makes a block begin as its shortcut; all else is the same. So begun the deeper
one is ahead.
"""

import dataclasses
import re

import numpy as np
from archive import summarize_run
from cases import Common, can_go_on, require_whole, run_cases, run_from_shell
from tables import format_table, origin

import convnets
from convnets.layers import zeros

NAME = "plain_versus_residual"
DEPTHS = (20, 56, 32, 44)  # the two ends first: the claim is about them
FAMILIES = {
    "cifar_plain{}": "plain",
    "cifar_resnet{}": "residual",
    "cifar_resnet{}, zeros": "residual, begun as identities",
}


@dataclasses.dataclass(frozen=True)
class Config(Common):
    """Train plain and residual networks of four depths on CIFAR-10 and archive their curves."""

    seeds: tuple[int, ...] = (0,)
    depths: tuple[int, ...] = DEPTHS
    steps: int = 3200
    batch_size: int = 128
    learning_rate: float = 0.1


def main(config: Config) -> None:
    data, small = "cifar10", {}
    if config.quick:
        data, small = "digits", {"depths": (8,), "steps": 4, "batch_size": 16}
    dataset = convnets.load_dataset(data, data_dir=config.data_dir)
    used = dataclasses.replace(config, **small)
    cases = [
        {"model": family.format(depth), "seed": seed}
        for seed in used.seeds
        for depth in used.depths
        for family in FAMILIES
    ]
    run_cases(NAME, config, cases, lambda case, folder: run(used, dataset, folder, **case))


def run(config: Config, dataset, folder, model: str, seed: int) -> dict:
    """Trains one network; its curves, and its errors in the end."""
    name, _, zeroed = model.partition(", ")
    begin = {"last_scale_init": zeros} if zeroed else {}
    network = convnets.create_model(name, num_classes=dataset.num_classes, **begin)
    every = -(-len(dataset.train) // config.batch_size)
    result = convnets.fit(
        network,
        dataset,
        steps=config.steps,
        batch_size=config.batch_size,
        optimizer="momentum",
        learning_rate=config.learning_rate,
        weight_decay=1e-4,
        schedule="step",
        augment=("crop", "flip"),
        seed=seed,
        log_every=every,
        evaluate_every=every,
        **can_go_on(folder, config),
    )
    require_whole(result)
    return {
        **summarize_run(result.history),
        "train_error_percent": measure_training_error(network, result.state, dataset.train),
        "train_curve": curve(result.history, "train"),
        "test_curve": curve(result.history, "test"),
    }


def measure_training_error(network, state, source) -> float:
    """In percent, of images as they are."""
    wrong = 0
    for start in range(0, len(source), 5000):
        batch = source.batch(range(start, min(start + 5000, len(source))))
        wrong += np.sum(
            convnets.predict(network, state, batch["image"]).argmax(1) != batch["label"]
        )
    return round(100 * float(wrong) / len(source), 4)


def curve(history, split) -> list:
    """`[step, error in percent]` of each line about a split."""
    name = f"{split}_accuracy"
    return [[x["step"], round(100 * (1 - x[name]), 3)] for x in history if name in x]


def table(archive: dict) -> str:
    """The table of README.md."""
    rows = [("CIFAR-10 as JPEG, error", "training", "test")]
    for family, title in FAMILIES.items():
        for depth, result in of_family(archive, family):
            errors = (result["train_error_percent"], result["test_error_percent"])
            rows.append((f"{depth} layers, {title}", *(f"{error:.2f} %" for error in errors)))
    return f"{format_table(rows)}\n\n{origin(archive)}"


def of_family(archive: dict, family: str) -> list[tuple[int, dict]]:
    """The results of one family, each after its depth."""
    found = [(re.fullmatch(family.format(r"(\d+)"), x["model"]), x) for x in archive["results"]]
    return sorted(((int(m[1]), x) for m, x in found if m), key=lambda pair: pair[0])


def figure(archive: dict):
    """Training and test error by step, a panel for each family."""
    import matplotlib.pyplot as plt

    drawn, axes = plt.subplots(
        1, len(FAMILIES), figsize=(12, 4), sharex=True, sharey=True, layout="constrained"
    )
    for axis, (family, title) in zip(axes, FAMILIES.items()):
        for depth, result in of_family(archive, family):
            color = f"C{depth // 12}"
            axis.plot(*zip(*result["train_curve"]), "--", color=color, linewidth=1)
            axis.plot(*zip(*result["test_curve"]), color=color, label=f"{depth} layers")
        axis.set_title(title)
        axis.set_xlabel("step")
        if axis.has_data():  # of what is archived up to now
            axis.legend(title="dashed: training, full: test")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("error on CIFAR-10 as JPEG [%]")
    axes[0].set_ylim(bottom=0)
    return drawn


if __name__ == "__main__":
    run_from_shell(NAME, main, Config)
