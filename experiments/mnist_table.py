"""The MNIST tables of two lectures, row by row: what they print, and what the same systems do here.

Command:    python experiments/mnist_table.py --data-dir DIR     (DIR holds TFDS's mnist)
Hardware:   see results/mnist_table.json
Minutes:    see there
Reference:  Collobert 2015, slide "MNIST"; Ranzato 2012, slide "MNIST": test errors in %
Ours:       see the table of README.md, made from results/mnist_table.json

Each row is one system with the settings of `mnist_systems.py`, chosen on a tenth of the training
split (`--validation 0.1`), trained on the whole of it and measured on test once a seed, the last
state of each run. A network for distorted digits, and a committee, average their answers to five
views of a test digit: as it is, and moved by a pixel to each side; `one_view_error_percent` is that
of the digit alone, and `member_error_percent` of each member. The linear classifier's printed
12.0 % is of 1998; a modern fit gives less. The members of a committee have their own widths of the
digits and their own seeds; one sees them as they are, which is the row "convolutional network,
distortions" with the same seed.
"""

import dataclasses
import functools
import statistics

import mnist_systems
from archive import summarize_run
from cases import (
    Common,
    can_go_on,
    load_mnist,
    require_known,
    require_whole,
    run_cases,
    run_from_shell,
)
from mnist_systems import SYSTEMS
from tables import format_table, origin

import convnets

NAME = "mnist_table"
QUICK = (
    "linear classifier",
    "k nearest neighbors, Euclidean",
    "convolutional network, distortions",
    "committee, distortions",
)
APART = 1000  # the seeds of a committee's members; the first has that of its row


@dataclasses.dataclass(frozen=True)
class Config(Common):
    """Train every system of the two tables on MNIST and archive its test error."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """One run for each; fewer of a system whose `runs` are."""
    systems: tuple[str, ...] = tuple(SYSTEMS)
    validation: float = 0.0
    """Share of the training split that is set apart and measured in place of the test split."""


def main(config: Config) -> None:
    require_known("system", config.systems, SYSTEMS)
    dataset = load_mnist(config)
    cases = [
        {"system": name, "seed": seed}
        for name in (QUICK if config.quick else config.systems)
        for seed in config.seeds[: 1 if config.quick else SYSTEMS[name].runs]
    ]
    train = functools.cache(functools.partial(train_member, config, dataset))
    run_cases(NAME, config, cases, lambda case, folder: run(config, dataset, train, **case))


def run(config: Config, dataset, train, system: str, seed: int) -> dict:
    """One system with one seed."""
    chosen = SYSTEMS[system]
    if chosen.fit_classifier is not None:
        return mnist_systems.run_classifier(chosen, dataset, seed, quick=config.quick)
    if chosen.widths:
        seeds = [seed + APART * number for number in range(len(chosen.widths))]
        each = list(zip(seeds, chosen.widths))[: 2 if config.quick else None]
        members = [train(chosen.member, *own) for own in each]
        return mnist_systems.ask_committee(chosen, dataset, members)
    model, result = train(system, seed, None)
    found = summarize_run(result.history)
    if chosen.views is None:
        return found
    averaged = mnist_systems.average_views(chosen, dataset, model, result.state)
    return {**found, "one_view_error_percent": found["test_error_percent"], **averaged}


def train_member(config, dataset, system, seed, width):
    """One network on digits of one width (None: as they are), or the rest of its training. Within
    a process none is trained twice."""
    name, system = f"{system.replace(' ', '_')}_{width}_{seed}", SYSTEMS[system]
    model = mnist_systems.NETWORKS[system.network]()
    result = convnets.fit(
        model,
        mnist_systems.with_width(dataset, width),
        seed=seed,
        augment=system.augment or "none",
        **(mnist_systems.QUICK if config.quick else system.options),
        **can_go_on(config.workdir and config.workdir / name, config),
    )
    require_whole(result)
    return model, result


def table(archive: dict) -> str:
    """The table of README.md."""
    rows = [("MNIST, test error", "Collobert 2015", "Ranzato 2012", "here", "seeds")]
    for name, system in SYSTEMS.items():
        errors = [x["test_error_percent"] for x in archive["results"] if x["system"] == name]
        if not errors:
            continue
        median = f"**{statistics.median(errors):.2f} %**"
        each = ", ".join(f"{error:.2f}" for error in errors) if len(errors) > 1 else ""
        rows.append((name, *(f"{x} %" if x else "" for x in system.printed), median, each))
    return (
        f"{format_table(rows)}\n\n{origin(archive)} A row is the median of its seeds; those with "
        "distortions average over five views of a digit."
    )


if __name__ == "__main__":
    run_from_shell(NAME, main, Config)
