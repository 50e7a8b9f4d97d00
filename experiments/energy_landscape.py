"""Auto-encoders that are held back miss points away from samples, which one that is not copies.

Command:    python experiments/energy_landscape.py
Hardware:   see results/energy_landscape.json
Minutes:    see there
Reference:  Ranzato 2012: "the model should represent training samples better than other points";
            LeCun, Chopra, Hadsell, Ranzato, Huang 2006, "A tutorial on energy-based learning"
Ours:       see the table and the figure of README.md, made from results/energy_landscape.json

Samples are points of a spiral in the plane, and the energy of a point is the squared error with
which a network makes it again. Two hidden layers of 64 units can copy the plane; a third of a
single unit, noise that is to be taken away and a price on the code's derivatives hold them back.
Compared are samples that were held out and points of a square around, at least 0.1 from any sample.
Samples are told from others by all of them, for a network that can copy every point still errs more
where it has seen none; but only those that are held back make of such a point another one.
"""

import dataclasses
import statistics
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from cases import Common, run_cases, run_from_shell
from pictures import unpack
from tables import format_table, name_seeds, origin
from trainings import rounded

import convnets
from convnets.layers import tanh
from convnets.unsupervised import DenseAutoencoder, add_gaussian_noise, reconstruction_loss

NAME = "energy_landscape"
SIDE = 1.2  # half of the square's
AWAY = 0.1  # other points are so far from samples
GRID = 61
LOWEST = -6  # power of 10 that is drawn
TWO = DenseAutoencoder((64, 64), activation=tanh)
NARROW = DenseAutoencoder((64, 64, 1), activation=tanh)
NOISE = partial(add_gaussian_noise, deviation=0.1)
LEARNERS = {
    "nothing": (TWO, reconstruction_loss),
    "a code of one unit": (NARROW, reconstruction_loss),
    "noise to take away": (TWO, partial(reconstruction_loss, corrupt=NOISE)),
    "contraction": (TWO.clone(tied=True), partial(reconstruction_loss, contraction=0.02)),
}


@dataclasses.dataclass(frozen=True)
class Config(Common):
    """Train auto-encoders on a spiral, and archive the energies around it."""

    seeds: tuple[int, ...] = (0, 1, 2)
    samples: int = 2000
    steps: int = 4000
    batch_size: int = 128
    learning_rate: float = 0.003


def main(config: Config) -> None:
    small = {"seeds": (0,), "steps": 2, "samples": 50} if config.quick else {}
    used = dataclasses.replace(config, **small)
    held_back = list(LEARNERS)[: 2 if config.quick else None]
    cases = [{"held_back_by": name, "seed": seed} for seed in used.seeds for name in held_back]
    run_cases(NAME, config, cases, lambda case, _: run(used, **case))


def draw(count: int, rng) -> np.ndarray:
    """Samples of the spiral, `[count, 1, 1, 2]`: images of one pixel with two channels."""
    radius = rng.random(count) ** 0.5
    turned = radius[:, None] * np.stack([np.cos(3 * np.pi * radius), np.sin(3 * np.pi * radius)], 1)
    return np.float32(turned + 0.02 * rng.normal(size=(count, 2))).reshape(count, 1, 1, 2)


def run(config: Config, held_back_by: str, seed: int) -> dict:
    """Energies of samples, of other points, and of a grid."""
    rng = np.random.default_rng(seed)
    samples, held_out = draw(config.samples, rng), draw(1000, rng)
    others = np.float32(rng.uniform(-SIDE, SIDE, (4000, 1, 1, 2)))
    nearest = np.linalg.norm(others[:, None, 0, 0] - samples[None, :, 0, 0], axis=2).min(1)
    energy = learn(config, samples, held_back_by, seed)
    low, high = (np.asarray(energy(points)) for points in (held_out, others[nearest >= AWAY]))
    line = np.linspace(-SIDE, SIDE, GRID, dtype=np.float32)
    grid = np.stack(np.meshgrid(line, line), -1).reshape(-1, 1, 1, 2)
    heights = 255 * np.log10(np.clip(energy(grid), 10.0**LOWEST, 1)) / -LOWEST + 255
    return {
        "energy_of_samples": rounded(float(np.median(low))),
        "energy_of_others": rounded(float(np.median(high))),
        "told_apart": rounded(float((low[:, None] < high[None]).mean())),
        "heights": {"shape": [1, GRID, GRID], "bytes": np.uint8(heights).tobytes().hex()},
    }


def learn(config: Config, samples, held_back_by: str, seed: int):
    """The energy that a network has learned, `[N, 1, 1, 2] -> [N]`."""
    model, objective = LEARNERS[held_back_by]
    optimizer = optax.adam(convnets.create_schedule("cosine", config.learning_rate, config.steps))
    init_key, key = jax.random.split(jax.random.key(seed))
    variables = model.init(init_key, samples[:1], train=False)
    state = convnets.TrainState.create(variables, optimizer, key)
    rng = np.random.default_rng(seed)

    def batches():
        while True:
            yield {"image": samples[rng.integers(0, len(samples), config.batch_size)]}

    step = convnets.make_step(objective(model), optimizer)
    *_, (_, state, _) = convnets.train(step, state, batches(), stop=config.steps)

    @jax.jit
    def energy(points):
        made = model.apply(state.variables(), points, train=False)["reconstruction"]
        return jnp.square(made - points).sum((1, 2, 3))

    return energy


def table(archive: dict) -> str:
    """The table of README.md."""
    names = ("energy_of_samples", "energy_of_others", "told_apart")
    rows = [("held back by", "energy of a held-out sample", "of another point", "told apart")]
    for learner in dict.fromkeys(line["held_back_by"] for line in archive["results"]):
        lines = [line for line in archive["results"] if line["held_back_by"] == learner]
        low, high, apart = (statistics.mean(line[name] for line in lines) for name in names)
        rows.append((learner, f"{low:.1e}", f"{high:.1e}", f"{100 * apart:.1f} %"))
    return (
        f"{format_table(rows)}\n\n{origin(archive)} Medians of squared errors, means over "
        f"{name_seeds(archive)}; told apart are pairs of both of which the "
        "sample has the lower energy."
    )


def figure(archive: dict):
    """The energies around the spiral, of the first seed, and samples as white points."""
    import matplotlib.pyplot as plt

    first = archive["results"][0]["seed"]
    lines = [x for x in archive["results"] if x["seed"] == first]
    drawn, axes = plt.subplots(
        1, len(lines), figsize=(2.6 * len(lines) + 0.6, 2.8), layout="constrained", squeeze=False
    )
    for axis, line in zip(axes[0], lines):
        logarithms = LOWEST * (1 - unpack(line["heights"])[0] / 255)
        extent = (-SIDE, SIDE, -SIDE, SIDE)
        shown = axis.imshow(logarithms, origin="lower", vmin=LOWEST, vmax=0, extent=extent)
        axis.plot(*draw(150, np.random.default_rng(0))[:, 0, 0].T, ".", color="white", markersize=1)
        axis.set_title(f"held back by {line['held_back_by']}", fontsize=8)
        axis.set(xticks=(-1, 0, 1), yticks=(-1, 0, 1))
        axis.tick_params(labelsize=7)
    drawn.colorbar(shown, ax=axes, label="energy, power of 10")
    return drawn


if __name__ == "__main__":
    run_from_shell(NAME, main, Config)
