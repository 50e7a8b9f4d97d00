"""How fast five networks train and infer on the CPU: here, in PyTorch, and in Flax as usual.

Command:    python experiments/speed.py     (with PyTorch: pip install torch==2.13.0)
Hardware:   see results/speed.json; nothing else ought to run there
Minutes:    see results/speed.json
Reference:  PyTorch and Flax on the same machine, in the same minutes
Ours:       see the table of README.md, made from results/speed.json

For each network, mode and precision all contestants take turns: ours with each lowering of the
convolutions, in one process that keeps freed memory as `fit` does; PyTorch in the fastest of its
forms, and the same network written with Flax's own layers and `jax.jit`, in processes of their own.
One line of it is also `convnets benchmark --model resnet50 --batch-size 16 --against torch`.
"""

import contextlib
import dataclasses
import time
from pathlib import Path

import tyro
from archive import RESULTS, write_archive
from tables import format_rate, format_table, origin

from convnets import parallel
from convnets.benchmark import PEERS, create_workload
from convnets.benchmark.apart import start_apart
from convnets.benchmark.arithmetic import measure_peak
from convnets.benchmark.measurement import describe_rates, describe_ratio, describe_workload
from convnets.benchmark.running import start
from convnets.benchmark.timing import take_turns
from convnets.benchmark.workloads import Workload, compile_program
from convnets.errors import UserError
from convnets.ops import LOWERINGS

NAME = "speed"
NETWORKS = {"lenet5": 512, "cifar_resnet20": 128, "alexnet": 32, "resnet18": 16, "resnet50": 16}
WORKLOADS = [
    create_workload(model, batch_size, mode=mode)
    for model, batch_size in NETWORKS.items()
    for mode in ("train", "infer")
] + [create_workload("resnet50", 16, precision="bfloat16")]
QUICK = [create_workload("lenet5", 8, mode=mode) for mode in ("train", "infer")]


@dataclasses.dataclass(frozen=True)
class Config:
    """Time every network in every mode, ours and its peers in turn, and archive all figures."""

    repetitions: int = 5
    """Turns of each contestant."""
    seconds: float = 2.0
    """Length of a turn, at least."""
    quick: bool = False
    """LeNet-5 in small batches and short turns: shows within seconds that everything runs."""
    archive: Path | None = None
    """File for the results. Default: experiments/results/speed.json, unless --quick."""


def main(config: Config) -> None:
    archive = config.archive or (None if config.quick else RESULTS / f"{NAME}.json")
    given = config
    if config.quick:
        config = dataclasses.replace(config, repetitions=2, seconds=0.02)
    parallel.keep_memory()
    begin, results = time.monotonic(), []
    for workload in QUICK if config.quick else WORKLOADS:
        results.append(compare(workload, config))
        print(describe(results[-1]))
        if archive is not None:
            minutes = (time.monotonic() - begin) / 60
            write_archive(archive, NAME, given, results, minutes, config.repetitions)


def compare(workload: Workload, config: Config) -> dict:
    """The figures of every contestant that is there, and our ratios to the peers."""
    contestants, described = [], {}
    for lowering in LOWERINGS:
        chosen = workload._replace(lowering=lowering)
        with leaving_out(lowering):
            contestants.append(start(compile_program(chosen), lowering))
            described[lowering] = describe_workload(chosen)
    for name, peer in PEERS.items():
        with leaving_out(name):
            contestants.append(start_apart(peer, workload))
            described[name] = {"version": peer.version(), "form": contestants[-1].form}
    peak = measure_peak(workload.precision)
    rates = take_turns(contestants, config.repetitions, config.seconds)
    figures = {
        contestant.name: {
            **described[contestant.name],
            **describe_rates(workload, contestant, rates[contestant.name], peak),
        }
        for contestant in contestants
    }
    ratios = {
        f"{ours}/{peer}": describe_ratio(rates[ours], rates[peer])
        for ours in rates.keys() - PEERS.keys()
        for peer in PEERS.keys() & rates.keys()
    }
    return {
        **workload._asdict(),
        "peak_flops_per_second": peak,
        "contestants": figures,
        "ratios": dict(sorted(ratios.items())),
    }


@contextlib.contextmanager
def leaving_out(name: str):
    """Says what cannot run here, and goes on without it."""
    try:
        yield
    except UserError as error:
        print(f"without {name}: {error}")


def describe(result: dict) -> str:
    """A result in one line."""
    rates = ", ".join(
        f"{name} {figures['images_per_second']:.3g}"
        for name, figures in result["contestants"].items()
    )
    return (
        f"{result['model']} ({result['batch_size']}), {result['mode']}, {result['precision']}: "
        f"{rates} images/s"
    )


def table(archive: dict) -> str:
    """The table of README.md."""
    head = ("images/s", "with oneDNN", "without", "PyTorch", "with / PyTorch", "without / PyTorch")
    rows = [(*head, "Flax as usual", "with / Flax")]
    for result in archive["results"]:
        rates = {
            name: format_rate(figures["images_per_second"])
            for name, figures in result["contestants"].items()
        }
        ratios = {name: format_ratio(found) for name, found in result["ratios"].items()}
        name = f"{result['model']} ({result['batch_size']}), {result['mode']}"
        name += "" if result["precision"] == "float32" else f", {result['precision']}"
        cells = (
            rates.get("onednn"),
            rates["plain"],
            rates.get("torch"),
            ratios.get("onednn/torch"),
            ratios.get("plain/torch"),
            rates["flax"],
            ratios.get("onednn/flax"),
        )
        rows.append((name, *(cell or "" for cell in cells)))
    return (
        f"{format_table(rows)}\n\n{origin(archive)} Medians of {archive['repetitions']} turns of "
        f"{archive['settings']['seconds']:g} s; a ratio is the median of the pairs' (in brackets "
        f"the least and the most). {', '.join(peer_versions(archive))}."
    )


def peer_versions(archive: dict) -> list[str]:
    """The libraries that a network was compared in, and that ours used, with their versions."""
    contestants = archive["results"][0]["contestants"]
    found = [f"{name} {contestants[name]['version']}" for name in ("torch", "flax")
             if name in contestants]  # fmt: skip
    return found + [f"oneDNN {c['onednn']}" for c in contestants.values() if "onednn" in c][:1]


def format_ratio(found: dict) -> str:
    each = found["ratio_repetitions"]
    return f"{found['ratio']:.2f} ({min(each):.2f} - {max(each):.2f})"


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
