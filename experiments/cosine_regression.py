"""Three layers of 1000 units fit a cosine where they have seen it, and nowhere else.

Command:    python experiments/cosine_regression.py
Hardware:   see results/cosine_regression.json
Minutes:    see there
Reference:  lecture S2, "toy example: synthetic data": 1 input, 1 output, 3 hidden layers of 1000
Ours:       see the figure of README.md, made from results/cosine_regression.json

Squared error on points drawn evenly from one period on either side of 0, Adam, the rate falling
along a cosine. The biases start with a deviation of 5, so that the ReLUs bend all over the
interval: with all biases at 0 they bend at 0 alone, and hardly anything is learned in this budget.
Archived are the network's values over twice the interval, and the largest errors inside and
outside of it.
"""

import dataclasses
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from cases import Common, run_cases, run_from_shell
from tables import format_table, origin
from trainings import rounded

import convnets
from convnets.layers import normal
from convnets.models.perceptron import DenseLayers

NAME = "cosine_regression"
HALF = 2 * math.pi  # of the interval that training sees


@dataclasses.dataclass(frozen=True)
class Config(Common):
    """Fit a cosine by 3 x 1000 hidden units and archive what the network says of twice as much."""

    seeds: tuple[int, ...] = (0, 1, 2)
    layers: tuple[int, ...] = (1000, 1000, 1000)
    bias_deviation: float = 5.0
    learning_rate: float = 1e-4
    steps: int = 500
    batch_size: int = 128


def main(config: Config) -> None:
    small = {"seeds": (0,), "layers": (8,), "steps": 2} if config.quick else {}
    used = dataclasses.replace(config, **small)
    hidden = partial(DenseLayers, features=used.layers, bias_init=normal(used.bias_deviation))
    network = convnets.create_model("linear", num_classes=1, hidden=hidden)
    schedule = convnets.create_schedule("cosine", used.learning_rate, used.steps)
    optimizer = convnets.create_optimizer("adam", schedule)
    loss_fn = squared_error_of(network)
    step = convnets.parallel.compile(convnets.make_step(loss_fn, optimizer), devices=1)
    cases = [{"seed": seed} for seed in used.seeds]
    run_cases(NAME, config, cases, lambda case, _: run(used, network, step, optimizer, **case))


def squared_error_of(network):
    """The loss function of `{"x": [B], "y": [B]}`."""

    def loss_fn(params, batch_stats, batch, key):
        values = convnets.losses.squared_error(apply(network, params, batch["x"]), batch["y"])
        metrics = {"loss": convnets.metrics.mean_metric(values)}
        return convnets.weighted_mean(values), (batch_stats, metrics)

    return loss_fn


def apply(network, params, x):
    """The network as a function of numbers: `[B] -> [B]`, each an image of one pixel."""
    return network.apply({"params": params}, x.reshape(-1, 1, 1, 1), train=False)[:, 0]


def run(config: Config, network, step, optimizer, seed: int) -> dict:
    """Trains once; the fit over twice the interval, and its largest errors."""
    init_key, key = jax.random.split(jax.random.key(seed))
    pixel = jnp.zeros((1, 1, 1, 1))
    variables = jax.jit(network.init, static_argnames="train")(init_key, pixel, train=False)
    start = convnets.TrainState.create(variables, optimizer, key)
    batches = draw(config.batch_size, seed)
    for _, state, measured in convnets.train(step, start, batches, stop=config.steps):  # noqa: B007
        pass
    x = np.linspace(-2 * HALF, 2 * HALF, 401, dtype=np.float32)
    y = np.asarray(apply(network, convnets.parallel.gather(state).params, x))
    errors, inside = np.abs(y - np.cos(x)), np.abs(x) <= HALF
    return {
        "last_loss": rounded(convnets.metrics.finish(measured)["loss"]),
        "largest_error_inside": rounded(float(errors[inside].max())),
        "largest_error_outside": rounded(float(errors[~inside].max())),
        "fit": [rounded(value) for value in y.tolist()],
    }


def draw(batch_size: int, seed: int):
    """Endless batches of points of the cosine."""
    generator = np.random.default_rng(seed)
    while True:
        x = generator.uniform(-HALF, HALF, batch_size).astype(np.float32)
        yield {"x": x, "y": np.cos(x)}


def table(archive: dict) -> str:
    """The table of README.md."""
    rows = [("cosine, 3 x 1000 hidden units", "largest error inside", "outside")]
    for result in archive["results"]:
        errors = (result["largest_error_inside"], result["largest_error_outside"])
        rows.append((f"seed {result['seed']}", *(f"{error:.3f}" for error in errors)))
    return f"{format_table(rows)}\n\n{origin(archive)}"


def figure(archive: dict):
    """The cosine, and what each network makes of it inside and outside of its interval."""
    import matplotlib.pyplot as plt

    drawn, axis = plt.subplots(figsize=(10, 3.2), layout="constrained")
    axis.axvspan(-HALF, HALF, color="0.92", label="seen in training")
    fine = np.linspace(-2 * HALF, 2 * HALF, 801)
    axis.plot(fine, np.cos(fine), "--", color="black", linewidth=1, label="cos x")
    for result in archive["results"]:
        x = np.linspace(-2 * HALF, 2 * HALF, len(result["fit"]))
        axis.plot(x, result["fit"], linewidth=1.2, label=f"network, seed {result['seed']}")
    axis.set(xlabel="x [radians]", ylabel="y", xlim=(-2 * HALF, 2 * HALF), ylim=(-3, 5))
    axis.legend(loc="lower center", ncols=5)
    return drawn


if __name__ == "__main__":
    run_from_shell(NAME, main, Config)
