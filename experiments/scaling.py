"""Where the network becomes the limit of synchronous training: measured here, foretold further on.

Command:    python experiments/scaling.py
Hardware:   see results/scaling.json; processes are bound to one core each, in turn, which
            others may use too: the load before is what they ask for (`os.getloadavg`)
Minutes:    see there
Reference:  Goyal et al. 2017, "Accurate, large minibatch SGD", section 5.6, figures 7 and 8: about
            90 % of the speed of 8 GPUs, 32 times as many, at 256
Ours:       see the tables and the figure of README.md, made from results/scaling.json

Measured: steps of LeNet-5 on 1, 2 and 4 processes of this machine, which sum their gradients over
its loopback interface; as many examples each (weak scaling), or together (strong).

Foretold, by the model of `interconnects.py`, for up to 1,024 devices: the step of a network on one
device, measured by `speed.py` or taken from the paper, the bytes of its gradients and of its
layers' outputs, and links as assumed in `many_devices.py`.
"""

import dataclasses
import json
import math
import os
import statistics
import subprocess
import sys
from pathlib import Path

from cases import Common, run_cases, run_from_shell
from many_devices import (
    BUCKET,
    DEVICES,
    ETHERNET,
    NETWORKS,
    STRATEGIES,
    Cluster,
    check_paper,
    foretell,
    measured_network,
    measured_steps,
)
from tables import format_rate, format_table, origin

import convnets
from convnets.launching import find_free_port

NAME = "scaling"


@dataclasses.dataclass(frozen=True)
class Config(Common):
    """Time processes of this machine, and foretell many devices."""

    processes: tuple[int, ...] = (1, 2, 4)
    model: str = "lenet5"
    """What the processes train, on images of 28x28x1."""
    batch_size: int = 512
    """Images of a process in weak scaling, of all in strong scaling."""
    networks: tuple[str, ...] = tuple(NETWORKS)
    """Of which many devices are foretold, beside the paper's."""
    steps: int = 20
    """Of the processes, in a repetition."""
    repetitions: int = 5


def main(config: Config) -> None:
    small = {"processes": (1, 2), "batch_size": 8, "networks": ("lenet5",)}
    small |= {"steps": 2, "repetitions": 2}
    used = dataclasses.replace(config, **small) if config.quick else config
    cases = [{"kind": "paper", "network": "resnet50", "link": "50 Gbit/s, hosts of 8"}]
    cases += [
        {"kind": "processes", "scaling": scaling, "processes": count}
        for count in used.processes
        for scaling in ("weak", "strong")
        if count > 1 or scaling == "weak"  # of one process both are the same
    ]
    cases += [{"kind": "network", "network": name} for name in used.networks]
    run_cases(NAME, config, cases, lambda case, folder: run(used, **case))


def run(config: Config, kind: str, **case) -> dict:
    if kind == "paper":
        return check_paper()
    if kind == "processes":
        return time_processes(config, **case)
    seconds, examples = measured_steps(case["network"])
    network = measured_network(case["network"], statistics.median(seconds), examples)
    foretold = {
        name: foretell(network, Cluster(link, link), bucket=BUCKET)
        for name, link in ETHERNET.items()
    }
    return {"step_seconds": seconds, "examples": examples, "foretold": foretold}


def time_processes(config: Config, scaling: str, processes: int) -> dict:
    """Seconds of a step of so many processes, one core each as far as there are cores."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    common = {
        "address": f"127.0.0.1:{find_free_port()}",
        "processes": processes,
        "model": config.model,
        "image_shape": (28, 28, 1),
        "batch_size": config.batch_size * (processes if scaling == "weak" else 1),
        "steps": config.steps,
        "repetitions": config.repetitions,
    }
    script = Path(__file__).with_name("scaling_process.py")
    flags = os.environ.get("XLA_FLAGS", "").split()
    flags = [flag for flag in flags if "device_count" not in flag]  # one device a process
    load = os.getloadavg()[0]
    started = [
        subprocess.Popen(
            [
                sys.executable,
                script,
                json.dumps({**common, "index": index, "core": cores[index % len(cores)]}),
            ],
            env={**os.environ, "XLA_FLAGS": " ".join(flags), "JAX_PLATFORMS": "cpu"},
            stdout=subprocess.PIPE if index == 0 else subprocess.DEVNULL,
            text=True,
        )
        for index in range(processes)
    ]
    try:
        out, _ = started[0].communicate()
        codes = [process.wait() for process in started]
    finally:
        for process in started:
            process.kill()
    if any(codes):
        raise convnets.UserError(f"{processes} processes ended with the codes {codes}")
    seconds = json.loads(out.splitlines()[-1])
    return {
        "batch_size": common["batch_size"],
        "step_seconds": seconds,
        "cores": len(cores),
        "load": load,
    }


def lines_of(archive: dict, kind: str) -> list[dict]:
    return [line for line in archive["results"] if line["kind"] == kind]


def foretold_lines(archive: dict) -> list[tuple[str, float, dict]]:
    """Name and link, seconds of one device, and seconds by strategy."""
    lines = []
    for line in lines_of(archive, "paper") + lines_of(archive, "network"):
        alone = statistics.median(line["step_seconds"])
        for link, ways in line["foretold"].items():
            lines.append((f"{line['network']} ({line['examples']}), {link}", alone, ways))
    return lines


def table(archive: dict) -> str:
    """The tables of README.md: what was measured, and what is foretold."""
    measured = lines_of(archive, "processes")
    one = statistics.median(measured[0]["step_seconds"])
    model, batch = archive["settings"]["model"], archive["settings"]["batch_size"]
    rows = [("processes here", "cores", "load before", "images", "ms a step", "efficiency")]
    for line in measured:
        step, count = statistics.median(line["step_seconds"]), line["processes"]
        ideal = one if line["scaling"] == "weak" else one / count
        rows.append(
            (
                f"{count}, {line['scaling']}" if count > 1 else "1",
                f"{min(count, line['cores'])}",
                f"{line['load']:.1f}",
                f"{line['batch_size']}",
                format_rate(1000 * step),
                f"{100 * ideal / step:.0f} %",
            )
        )
    head = ("a device's step (images), link", "s alone", *STRATEGIES)
    foretold = [head]
    for name, alone, ways in foretold_lines(archive):
        cells = [describe(alone, ways[way]) for way in STRATEGIES]
        foretold.append((name, f"{alone:.3f}", *cells))
    check = lines_of(archive, "paper")[0]
    ours, theirs = check["efficiency_of_the_model"], check["efficiency_of_the_paper"]
    gigabits = check["gigabits_for_the_paper"]
    return (
        f"{format_table(rows)}\n\n{format_table(foretold)}\n\n{origin(archive)} Measured: {model}, "
        f"{batch} images a process (weak) or in all (strong); efficiency is the time of one "
        "process over that of several, of their share in strong scaling. Foretold: the share of a "
        f"step in which {DEVICES[-1]:,} devices compute, and from how many on it is below half. "
        f"From 8 to 256 GPUs the model keeps {100 * ours:.0f} % of the speed of each; Goyal et al. "
        f"kept {100 * theirs:.0f} %, as it would with {gigabits:.0f} of the 50 Gbit/s."
    )


def describe(alone: float, seconds: list[float]) -> str:
    """The efficiency of the most devices, and where it falls below half."""
    shares = [alone / each for each in seconds]
    below = [devices for devices, share in zip(DEVICES, shares) if share < 0.5]
    return f"{100 * shares[-1]:.1f} %" + (f" (from {below[0]:,} on)" if below else "")


def figure(archive: dict):
    """Efficiency by the number of devices: foretold, and measured."""
    import matplotlib.pyplot as plt

    lines = foretold_lines(archive)
    columns = math.ceil((len(lines) + 1) / 2)
    drawn, axes = plt.subplots(
        2, columns, figsize=(4 * columns, 6.4), layout="constrained", sharey=True, squeeze=False
    )
    for axis, (name, alone, ways) in zip(axes.flat, lines):
        for way in STRATEGIES:
            axis.plot(DEVICES, [100 * alone / x for x in ways[way]], marker="o", ms=3, label=way)
        axis.set_xscale("log", base=2)
        axis.set_title(name, fontsize=10)
        axis.set_xlabel("devices, foretold")
    axes.flat[len(lines) - 2].legend(fontsize=8, loc="upper right")
    axis = axes.flat[len(lines)]
    measured = lines_of(archive, "processes")
    one = statistics.median(measured[0]["step_seconds"])
    for scaling in ("weak", "strong"):
        found = [x for x in measured if x["scaling"] == scaling or x["processes"] == 1]
        counts = [x["processes"] for x in found]
        ideals = [one / (x if scaling == "strong" else 1) for x in counts]
        shares = [
            100 * ideal / statistics.median(x["step_seconds"]) for ideal, x in zip(ideals, found)
        ]
        axis.plot(counts, shares, marker="s", ms=4, label=f"{scaling} scaling")
    axis.set_xticks(counts, counts)
    axis.set_title(f"{archive['settings']['model']}, measured", fontsize=10)
    axis.set_xlabel(f"processes on {archive['hardware']['cores']} cores")
    axis.legend(fontsize=8, loc="lower left")
    for axis in axes.flat[len(lines) + 1 :]:
        axis.set_visible(False)
    for axis in axes[:, 0]:
        axis.set_ylabel("efficiency [%]")
    for axis in axes.flat:
        axis.set_ylim(0, 105)
        axis.grid(alpha=0.3)
    return drawn


if __name__ == "__main__":
    run_from_shell(NAME, main, Config)
