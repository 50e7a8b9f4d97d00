"""Of 22 ReLU layers both initializations converge, of 30 in the same time only He's.

Command:    python experiments/initialization_depth.py
Hardware:   see results/initialization_depth.json
Minutes:    see there
Reference:  He, Zhang, Ren, Sun 2015, "Delving deep into rectifiers", section 2.2, figures 2 and 3:
            22 and 30 layers on ImageNet, "Xavier" against theirs
Ours:       see the figure of README.md, made from results/initialization_depth.json

Dense layers of 64 ReLUs on the embedded digits, without batch norm; momentum 0.9 and weight decay
5e-4 as in the paper, the rate constant. Each initialization has the same five rates to choose from,
at each depth, and takes that of the least training loss in the end, over all seeds. A training has
converged when its loss, over the last tenth of the steps, is below half of that of guessing.

Through a layer of ReLUs Xavier's weights halve the mean square of the signal forward and of the
gradient backward, He's keep both: so at D layers every gradient is about 2^(-D/2) times as large.
The norms of all layers before the first step are archived. Differs: in the paper 30 layers of
Xavier stall for good; here their plateau is longer than at 22 layers, but some leave it towards the
end of the 1500 steps, and would converge with more of them.
"""

import dataclasses
import functools
import math
import statistics

from cases import Common, run_cases, run_from_shell
from tables import format_table, origin
from trainings import (
    choose_rate,
    compile_on,
    initial_state,
    last_loss,
    make_layer_norms,
    optimizer_with_rate,
    points,
    record,
)

import convnets
from convnets.layers import glorot_normal, he_normal

NAME = "initialization_depth"
INITIALIZERS = {"He": he_normal(), "Xavier": glorot_normal()}
BOUND = math.log(10) / 2


@dataclasses.dataclass(frozen=True)
class Config(Common):
    """Train deep ReLU networks from two initializations and archive their curves and norms."""

    seeds: tuple[int, ...] = (0, 1, 2)
    depths: tuple[int, ...] = (22, 30)
    rates: tuple[float, ...] = (0.1, 0.03, 0.01, 0.003, 0.001)
    width: int = 64
    steps: int = 1500
    batch_size: int = 64


def main(config: Config) -> None:
    small = {"depths": (3,), "rates": (0.01,), "steps": 2, "seeds": (0,)} if config.quick else {}
    used = dataclasses.replace(config, **small)
    dataset = convnets.load_dataset("digits")
    cases = [
        {"depth": depth, "initialization": name, "seed": seed}
        for depth in used.depths
        for seed in used.seeds
        for name in INITIALIZERS
    ]
    programs = functools.cache(lambda depth: compile_programs(used, dataset, depth))
    run_cases(
        NAME,
        config,
        cases,
        lambda case, folder: run(used, dataset, programs(case["depth"]), **case),
    )


def create_network(config: Config, depth: int, initialization: str):
    return convnets.create_model(
        "mlp",
        num_classes=10,
        features=(config.width,) * (depth - 1),
        kernel_init=INITIALIZERS[initialization],
    )


def compile_programs(config: Config, dataset, depth: int):
    """The step and the norms, which are those of both initializations and all rates."""
    network = create_network(config, depth, "He")
    loss_fn = convnets.classification_loss(network, normalization=dataset.normalization)
    step = convnets.make_step(loss_fn, create_optimizer(0.1))
    return compile_on(step, dataset.train, config.steps), make_layer_norms(network, loss_fn)


def create_optimizer(rate: float):
    return optimizer_with_rate("momentum", rate, weight_decay=5e-4)


def run(config: Config, dataset, programs, depth: int, initialization: str, seed: int) -> dict:
    """Trains from one start with every rate; the curves, and the norms before."""
    step, layer_norms = programs
    network = create_network(config, depth, initialization)
    trials = []
    for rate in config.rates:
        start = initial_state(network, dataset, create_optimizer(rate), seed)
        _, curve = record(step, start, dataset.train, config.batch_size, config.steps, seed)
        trials.append({"rate": rate, "last_loss": last_loss(curve), "curve": curve})
    activations, gradients = layer_norms(start, dataset.train.batch(range(256)))
    return {"activations": activations, "gradients": gradients, "trials": trials}


def best_trials(archive: dict) -> dict:
    """By depth and initialization, the trials of the best rate, one of each seed."""
    found = {}
    for result in archive["results"]:
        found.setdefault((result["depth"], result["initialization"]), []).append(result["trials"])
    return {
        key: [
            next(t for t in each if t["rate"] == choose_rate(trials, "last_loss"))
            for each in trials
        ]
        for key, trials in found.items()
    }


def has_converged(trial: dict) -> bool:
    """Whether the loss ends below half of that of guessing."""
    return trial["last_loss"] is not None and trial["last_loss"] < BOUND


def steps_to_learn(trial: dict, steps: int) -> float:
    """The first step with a loss below half of that of guessing; infinite where there is none."""
    below = (step for step, loss in points(trial["curve"], steps) if loss < BOUND)
    return next(below, math.inf)


def table(archive: dict) -> str:
    """The table of README.md."""
    head = ("ReLU layers on the digits", "best rate", "last training loss", "converged", "step")
    rows = [(*head, "gradient of layer 1 at the start")]
    for (depth, initialization), trials in best_trials(archive).items():
        losses = [trial["last_loss"] for trial in trials]
        norms = [
            result["gradients"][0]
            for result in archive["results"]
            if (result["depth"], result["initialization"]) == (depth, initialization)
        ]
        step = statistics.median(
            steps_to_learn(trial, archive["settings"]["steps"]) for trial in trials
        )
        rows.append(
            (
                f"{depth}, {initialization}",
                f"{trials[0]['rate']:g}",
                ", ".join("none" if loss is None else f"{loss:.2f}" for loss in losses),
                f"{sum(map(has_converged, trials))} of {len(trials)}",
                "" if math.isinf(step) else f"{step:.0f}",
                f"{statistics.median(norms):.1e}",
            )
        )
    note = (
        "Losses of each seed; converged: in the end below half of the loss of guessing (dotted); "
        "`step`: the first below, median of the seeds, as the gradient's norm is."
    )
    return f"{format_table(rows)}\n\n{origin(archive)} {note}"


def figure(archive: dict):
    """The curves of the best rates, and the norms of the gradients at the start."""
    import matplotlib.pyplot as plt

    depths = sorted({result["depth"] for result in archive["results"]})
    drawn, axes = plt.subplots(1, len(depths) + 1, figsize=(8.4, 3), layout="constrained")
    for (depth, initialization), trials in best_trials(archive).items():
        color = f"C{list(INITIALIZERS).index(initialization)}"
        for number, trial in enumerate(trials):
            label = f"{initialization}, rate {trial['rate']:g}" if number == 0 else None
            curve = points(trial["curve"], archive["settings"]["steps"])
            axes[depths.index(depth)].plot(*zip(*curve), color=color, linewidth=1.2, label=label)
    for axis, depth in zip(axes, depths):
        axis.set(title=f"{depth} layers, {len(trials)} seeds", xlabel="step", ylim=(0, 3.3))
        axis.axhline(BOUND, color="gray", linestyle=":", linewidth=1)
        axis.legend(loc="upper right", fontsize=8)
    axes[0].set_ylabel("training loss [nats]")
    first = {(x["initialization"], x["depth"]): x for x in reversed(archive["results"])}
    for result in archive["results"]:
        name, depth = result["initialization"], result["depth"]
        label = f"{name}, {depth} layers" if first[name, depth] is result else None
        style = "-" if depth == depths[0] else "--"
        color = f"C{list(INITIALIZERS).index(name)}"
        layers = range(1, depth + 1)
        axes[-1].semilogy(layers, result["gradients"], style, color=color, label=label, linewidth=1)
    axes[-1].set(title="before the first step", xlabel="layer", ylabel="norm of the gradient")
    axes[-1].legend(fontsize=8)
    return drawn


if __name__ == "__main__":
    run_from_shell(NAME, main, Config)
