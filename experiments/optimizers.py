"""With a rate of its own every gradient method comes about as far; hill climbing lags far behind.

Command:    python experiments/optimizers.py --data-dir DIR   (DIR holds TFDS's fashion_mnist)
Hardware:   see results/optimizers.json
Minutes:    see there
Reference:  lecture S3 (its formulas of SGD, momentum, AdaGrad, RMSProp and Adam); Sutskever et al.
            2013; Duchi et al. 2011; Tieleman and Hinton 2012; Kingma and Ba 2015
Ours:       see the figure of README.md, made from results/optimizers.json

One task, Fashion-MNIST by 100 hidden ReLUs, and one budget for all. Each optimizer has five rates
to choose from, a factor of about 3 apart, around its usual ones, and takes the one with the least
loss on a tenth of the training split that is set apart, over all seeds; on the test split that rate
alone is reported. Hill climbing's rate is the deviation of the noise that it adds to all
parameters; it keeps what has less loss on the batch at hand, and computes no gradient.
"""

import dataclasses
import functools
import statistics

import optax
from cases import Common, require_known, run_cases, run_from_shell
from tables import format_table, name_seeds, origin
from trainings import (
    choose_rate,
    compile_on,
    initial_state,
    optimizer_with_rate,
    points,
    record,
    rounded,
)

import convnets

NAME = "optimizers"
LABELS = {
    "sgd": "SGD",
    "momentum": "momentum",
    "nesterov": "Nesterov",
    "adagrad": "AdaGrad",
    "rmsprop": "RMSProp",
    "adam": "Adam",
    "hill_climbing": "hill climbing",
}
FACTORS = (1, 0.3, 0.1, 0.03, 0.01)  # of the largest rate
# The largest of each one's rates.
LARGEST = {
    "sgd": 1.0,
    "momentum": 0.3,
    "nesterov": 0.3,
    "adagrad": 0.1,
    "rmsprop": 0.03,
    "adam": 0.03,
    "hill_climbing": 0.03,
}


@dataclasses.dataclass(frozen=True)
class Config(Common):
    """Train one network by every optimizer and archive the curves of all rates."""

    seeds: tuple[int, ...] = (0, 1, 2)
    optimizers: tuple[str, ...] = tuple(LABELS)
    rates: int = 5
    hidden: int = 100
    steps: int = 600
    batch_size: int = 64


def main(config: Config) -> None:
    require_known("optimizer", config.optimizers, LABELS)
    if not 1 <= config.rates <= len(FACTORS):
        raise convnets.UserError(
            f"there are {len(FACTORS)} rates of each optimizer, not {config.rates}"
        )
    data, small = "fashion_mnist", {}
    if config.quick:
        data = "digits"
        small = {"seeds": (0,), "rates": 1, "steps": 2, "optimizers": ("adam", "hill_climbing")}
    used = dataclasses.replace(config, **small)
    dataset = convnets.load_dataset(data, data_dir=config.data_dir, validation=0.1)
    network = convnets.create_model("mlp", num_classes=10, features=(used.hidden,))
    loss_fn = convnets.classification_loss(network, normalization=dataset.normalization)
    evaluate = make_evaluate(loss_fn, dataset)
    cases = [{"optimizer": name, "seed": seed} for name in used.optimizers for seed in used.seeds]

    @functools.lru_cache(maxsize=used.rates)
    def program(name, rate):
        step = make_step(loss_fn, name, rate)
        return compile_on(step, dataset.train, used.steps)

    def run(case, folder):
        name, seed = case["optimizer"], case["seed"]
        trials = []
        for rate in rates_of(name)[: used.rates]:
            step = program(name, rate if name == "hill_climbing" else None)
            start = initial_state(network, dataset, create_optimizer(name, rate), seed)
            state, curve = record(step, start, dataset.train, used.batch_size, used.steps, seed)
            trials.append({"rate": rate, "curve": curve, **evaluate(state)})
        return {"trials": trials}

    run_cases(NAME, config, cases, run)


def rates_of(name: str) -> list[float]:
    """From the largest down, in steps of about 3."""
    return [float(f"{LARGEST[name] * factor:.1g}") for factor in FACTORS]


def create_optimizer(name: str, rate: float):
    """The optimizer; hill climbing has none."""
    return optax.identity() if name == "hill_climbing" else optimizer_with_rate(name, rate)


def make_step(loss_fn, name: str, rate: float | None):
    """The step of an optimizer, for all rates, or of hill climbing with noise of this deviation."""
    if name == "hill_climbing":
        return convnets.make_hill_climbing_step(loss_fn, rate)
    return convnets.make_step(loss_fn, create_optimizer(name, 0.1))


def make_evaluate(loss_fn, dataset):
    """`state -> ` loss on validation, and accuracy in percent there and on the test split."""
    eval_step = convnets.parallel.compile(convnets.make_eval_step(loss_fn), devices=1, donate=False)

    sources = {"validation": dataset.validation, "test": dataset.test}
    size = min(2000, *map(len, sources.values()))

    def evaluate(state):
        found = {
            split: convnets.evaluate(eval_step, state, convnets.evaluation_batches(source, size))
            for split, source in sources.items()
        }
        return {
            "validation_loss": rounded(found["validation"]["loss"]),
            "validation_accuracy": round(100 * found["validation"]["accuracy"], 3),
            "test_accuracy": round(100 * found["test"]["accuracy"], 3),
        }

    return evaluate


def best_trials(archive: dict) -> dict:
    """By optimizer, the trials of the rate that validation chooses, one of each seed."""
    found = {}
    for result in archive["results"]:
        found.setdefault(result["optimizer"], []).append(result["trials"])
    best = {name: choose_rate(trials, "validation_loss") for name, trials in found.items()}
    return {
        name: [next(trial for trial in each if trial["rate"] == best[name]) for each in trials]
        for name, trials in found.items()
    }


def table(archive: dict) -> str:
    """The table of README.md."""
    steps = archive["settings"]["steps"]
    rows = [(f"Fashion-MNIST, {steps:,} steps", "best rate", "validation loss", "test accuracy")]
    for name, trials in best_trials(archive).items():
        losses = [trial["validation_loss"] for trial in trials]
        accuracies = [trial["test_accuracy"] for trial in trials]
        spread = f" ± {statistics.stdev(accuracies):.2f}" if len(accuracies) > 1 else ""
        rows.append(
            (
                LABELS[name],
                f"{trials[0]['rate']:g}",
                "infinite" if None in losses else f"{statistics.mean(losses):.3f}",
                f"{statistics.mean(accuracies):.2f} %{spread}",
            )
        )
    note = f"Mean and deviation of {name_seeds(archive)}."
    return f"{format_table(rows)}\n\n{origin(archive)} {note}"


def lines(pairs: list) -> tuple[tuple, tuple]:
    """Their first numbers and their second."""
    return tuple(zip(*pairs)) or ((), ())


def figure(archive: dict):
    """The curves of the best rates, and the loss on validation by rate."""
    import matplotlib.pyplot as plt

    drawn, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    for number, (name, trials) in enumerate(best_trials(archive).items()):
        curves = zip(*(trial["curve"] for trial in trials))
        means = [None if None in losses else statistics.mean(losses) for losses in curves]
        curve = points(means, archive["settings"]["steps"])
        label = f"{LABELS[name]}, {trials[0]['rate']:g}"
        left.semilogy(*lines(curve), color=f"C{number}", linewidth=1, label=label)
        of_seeds = [r["trials"] for r in archive["results"] if r["optimizer"] == name]
        rates = [trial["rate"] for trial in of_seeds[0]]
        losses = [
            [t["validation_loss"] for each in of_seeds for t in each if t["rate"] == rate]
            for rate in rates
        ]
        means = [(r, statistics.mean(x)) for r, x in zip(rates, losses) if None not in x]
        right.plot(*lines(means), "o-", color=f"C{number}", markersize=3, linewidth=1)
    left.set(xlabel="step", ylabel="loss of the batches [nats]", title="best rate of each")
    left.legend(fontsize=8, ncols=2)
    right.set(xscale="log", yscale="log", xlabel="rate", ylabel="loss on validation [nats]")
    right.set_title("all rates")
    drawn.suptitle(f"means of {name_seeds(archive)}", fontsize=10)
    for axis in (left, right):
        axis.set(ylim=(0.35, 3.5), yticks=[0.4, 0.6, 1, 2, 3], yticklabels=[0.4, 0.6, 1, 2, 3])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    return drawn


if __name__ == "__main__":
    run_from_shell(NAME, main, Config)
