"""Where the network becomes the limit of synchronous training: measured here, predicted further on.

Command:    python experiments/scaling.py       (on a machine that has nothing else to do)
Hardware:   see results/scaling.json; processes are bound to one core each, in turn
Minutes:    see there
Reference:  Goyal et al. 2017, "Accurate, large minibatch SGD", section 5.5, figures 7 and 8: about
            90 % of the speed of 8 GPUs, 32 times as many, at 256
Ours:       see the tables and the figure of README.md, made from results/scaling.json

Measured: steps of LeNet-5 on 1, 2 and 4 processes of this machine, which sum their gradients over
its loopback interface; as many examples each (weak scaling), or together (strong). They take turns:
all of them once, then all again. Efficiency is that of a core, so that processes that share one are
not expected to be faster than it. A machine that is busy is refused (`require_idle`).

Predicted, by the model of `interconnects.py`, for up to 1,024 devices: the step of a network on one
device, measured by `speed.py` or taken from the paper, the bytes of its gradients and of its
layers' outputs, and links as assumed in `many_devices.py`. The model is a bound for its algorithms,
and does not meet the paper's 90 %: `many_devices.py` says what it leaves out.
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
    measured_network,
    measured_steps,
    predict,
)
from tables import format_rate, format_table, origin

import convnets
from convnets.launching import find_free_port

NAME = "scaling"


@dataclasses.dataclass(frozen=True)
class Config(Common):
    """Time processes of this machine, and predict many devices."""

    processes: tuple[int, ...] = (1, 2, 4)
    """How many; one is always among them, for the others are measured by it."""
    model: str = "lenet5"
    """What the processes train, on images of 28x28x1."""
    batch_size: int = 512
    """Images of a process in weak scaling, of all in strong scaling."""
    networks: tuple[str, ...] = tuple(NETWORKS)
    """Of which many devices are predicted, beside the paper's."""
    steps: int = 20
    """Of the processes, in a repetition."""
    repetitions: int = 5


def main(config: Config) -> None:
    small = {"processes": (1, 2), "batch_size": 8, "networks": ("lenet5",)}
    small |= {"steps": 2, "repetitions": 1}
    used = dataclasses.replace(config, **small) if config.quick else config
    load = os.getloadavg()[0]
    if not config.quick:
        require_idle(load)
    cases = [
        {"kind": "processes", "processes": count, "scaling": scaling, "repetition": repetition}
        for repetition in range(used.repetitions)
        for count in sorted({1, *used.processes})
        for scaling in ("weak", "strong")
        if count > 1 or scaling == "weak"  # of one process both are the same
    ]
    cases += [{"kind": "paper", "network": "resnet50", "link": "50 Gbit/s, hosts of 8"}]
    cases += [{"kind": "network", "network": name} for name in used.networks]
    run_cases(NAME, config, cases, lambda case, folder: run(used, load, **case))


def count_cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def require_idle(load: float) -> None:
    """Refuses a machine that does more than half of what its cores can, by its load average."""
    cores = count_cores()
    if load > cores / 2:
        raise convnets.UserError(
            f"the load average is {load:.1f}, and may be {cores / 2:g} at most on {cores} cores: "
            "times taken beside other work say nothing about scaling; wait until it has fallen"
        )


def run(config: Config, load: float, kind: str, **case) -> dict:
    if kind == "paper":
        return check_paper()
    if kind == "processes":
        found = time_processes(config, case["scaling"], case["processes"])
        return {**found, "cores": count_cores(), "load": load}
    seconds, examples = measured_steps(case["network"])
    network = measured_network(case["network"], statistics.median(seconds), examples)
    predicted = {
        name: predict(network, Cluster(link, link), bucket=BUCKET)
        for name, link in ETHERNET.items()
    }
    return {"step_seconds": seconds, "examples": examples, "predicted": predicted}


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
    }
    script = Path(__file__).with_name("scaling_process.py")
    flags = os.environ.get("XLA_FLAGS", "").split()
    flags = [flag for flag in flags if "device_count" not in flag]  # one device a process
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
    return {"batch_size": common["batch_size"], "step_seconds": float(out.splitlines()[-1])}


def lines_of(archive: dict, kind: str) -> list[dict]:
    return [line for line in archive["results"] if line["kind"] == kind]


def measured_lines(archive: dict) -> list[dict]:
    """Of all repetitions of so many processes one line, with the median `seconds` of a step, the
    `cores` that they had and the `efficiency` of a core."""
    turns = {}
    for line in lines_of(archive, "processes"):
        turns.setdefault((line["processes"], line["scaling"]), []).append(line)
    times = {
        key: statistics.median(line["step_seconds"] for line in lines)
        for key, lines in turns.items()
    }
    found = []
    for (processes, scaling), (line, *_) in turns.items():
        seconds, cores = times[processes, scaling], min(processes, line["cores"])
        ideal = times[1, "weak"] * (processes if scaling == "weak" else 1) / cores
        found.append({**line, "seconds": seconds, "cores": cores, "efficiency": ideal / seconds})
    return found


def predicted_lines(archive: dict) -> list[tuple[str, float, dict]]:
    """Name and link, seconds of one device, and seconds by strategy."""
    lines = []
    for line in lines_of(archive, "paper") + lines_of(archive, "network"):
        alone = statistics.median(line["step_seconds"])
        for link, ways in line["predicted"].items():
            lines.append((f"{line['network']} ({line['examples']}), {link}", alone, ways))
    return lines


def table(archive: dict) -> str:
    """The tables of README.md: what was measured, and what is predicted."""
    rows = [("processes here", "cores", "images", "ms a step", "efficiency of a core")]
    for line in measured_lines(archive):
        count = line["processes"]
        rows.append(
            (
                f"{count}, {line['scaling']}" if count > 1 else "1",
                f"{line['cores']}",
                f"{line['batch_size']}",
                format_rate(1000 * line["seconds"]),
                f"{100 * line['efficiency']:.0f} %",
            )
        )
    predicted = [("a device's step (images), link", "s alone", *STRATEGIES)]
    for name, alone, ways in predicted_lines(archive):
        cells = [describe(alone, ways[way]) for way in STRATEGIES]
        predicted.append((name, f"{alone:.3f}", *cells))
    return (
        f"{format_table(rows)}\n\n{format_table(predicted)}\n\n{origin(archive)} "
        f"{describe_measured(archive)} Predicted: the share of a step in which {DEVICES[-1]:,} "
        "devices compute, and from how many on it is below half; a bound for sums round a ring "
        "inside of a host, by halving and doubling between hosts. "
        f"{describe_check(lines_of(archive, 'paper')[0])}"
    )


def describe_measured(archive: dict) -> str:
    model, batch = archive["settings"]["model"], archive["settings"]["batch_size"]
    loads = sorted({f"{line['load']:.1f}" for line in lines_of(archive, "processes")}, key=float)
    return (
        f"Measured: {model}, {batch} images a process (weak) or in all (strong); efficiency is the "
        "time in which one process computes a core's images, over that of the step; the load "
        f"average before was {' to '.join(dict.fromkeys((loads[0], loads[-1])))}."
    )


def describe_check(check: dict) -> str:
    """What the model makes of the paper's machines, beside what they did."""
    ours, theirs = check["seconds_of_the_model"], check["seconds_of_the_paper"]
    kept, did = (100 * check[f"efficiency_of_the_{whose}"] for whose in ("model", "paper"))
    return (
        f"From 8 to 256 GPUs the model keeps {kept:.0f} % of the speed of each, Goyal et al. kept "
        f"{did:.0f} %: of their step of {1000 * theirs:.0f} ms, {1000 * (theirs - ours):.0f} ms "
        "are of what the model leaves out."
    )


def describe(alone: float, seconds: list[float]) -> str:
    """The efficiency of the most devices, and where it falls below half."""
    shares = [alone / each for each in seconds]
    below = [devices for devices, share in zip(DEVICES, shares) if share < 0.5]
    return f"{100 * shares[-1]:.1f} %" + (f" (from {below[0]:,} on)" if below else "")


def figure(archive: dict):
    """Efficiency by the number of devices: predicted, and measured."""
    import matplotlib.pyplot as plt

    lines = predicted_lines(archive)
    columns = math.ceil((len(lines) + 1) / 2)
    drawn, axes = plt.subplots(
        2, columns, figsize=(4 * columns, 6.4), layout="constrained", sharey=True, squeeze=False
    )
    for axis, (name, alone, ways) in zip(axes.flat, lines):
        for way in STRATEGIES:
            axis.plot(DEVICES, [100 * alone / x for x in ways[way]], marker="o", ms=3, label=way)
        axis.set_xscale("log", base=2)
        axis.set_title(name, fontsize=10)
        axis.set_xlabel("devices, predicted")
    axes.flat[len(lines) - 2].legend(fontsize=8, loc="upper right")
    axis = axes.flat[len(lines)]
    for scaling in ("weak", "strong"):
        found = [
            x for x in measured_lines(archive) if x["scaling"] == scaling or x["processes"] == 1
        ]
        counts = [x["processes"] for x in found]
        shares = [100 * x["efficiency"] for x in found]
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
