"""A two-layer sigmoidal network errs less with four times the units, from 4 on, down to rounding.

Command:    python experiments/universal_approximation.py
Hardware:   see results/universal_approximation.json
Minutes:    see there
Reference:  Cybenko 1989, "Approximation by superpositions of a sigmoidal function", theorem 2
Ours:       see the figure of README.md, made from results/universal_approximation.json

Four continuous functions on [-1, 1]: smooth, with a kink, with a vertical tangent, and Weierstrass'
(its first eight terms). The hidden units are random and stay so: kernels from a normal
distribution, biases from a uniform one, of a scale that grows with the width; the outer weights and
bias are the least squares over 2,049 points, in float64. So what is archived, the largest error on
10,001 points, bounds from above what a network of that width can do. With every quadrupling from 4
units on it falls, whatever the function; below, the cosine is not followed at all, and at 1e-6,
which the cosine meets with 128 units, it is what least squares lose to rounding.
"""

import dataclasses
import statistics

import jax
import jax.numpy as jnp
import numpy as np
from cases import Common, run_cases, run_from_shell
from tables import format_table, name_seeds, origin

from convnets.layers import normal, sigmoid
from convnets.models.perceptron import DenseLayers

NAME = "universal_approximation"
TARGETS = {
    "cos 3πx": lambda x: np.cos(3 * np.pi * x),
    "|x|": np.abs,
    "sqrt |x|": lambda x: np.sqrt(np.abs(x)),
    "Weierstrass": lambda x: sum(0.5**k * np.cos(3**k * np.pi * x) for k in range(8)),
}
DRAWN = {4: "4 units", 32: "32 units", 256: "256 units"}


@dataclasses.dataclass(frozen=True)
class Config(Common):
    """Fit two-layer networks of growing width to four functions and archive the largest errors."""

    seeds: tuple[int, ...] = (0, 1, 2)
    widths: tuple[int, ...] = tuple(2**k for k in range(11))


def main(config: Config) -> None:
    widths = (4,) if config.quick else config.widths
    seeds = (0,) if config.quick else config.seeds
    cases = [{"width": width, "seed": seed} for width in widths for seed in seeds]
    with jax.enable_x64(True):
        run_cases(NAME, config, cases, lambda case, folder: fit(**case))


def fit(width: int, seed: int) -> dict:
    """The largest error for each target, and for some widths the fits themselves."""
    scale = 4 + width / 4
    layer = DenseLayers(
        (width,), activation=sigmoid, kernel_init=normal(scale), bias_init=uniform(scale)
    )
    points = {name: np.linspace(-1, 1, count) for name, count in (("fit", 2049), ("test", 10001))}
    variables = layer.init(jax.random.key(seed), points["fit"][:, None], train=False)

    def hidden(x):
        units = np.asarray(layer.apply(variables, x[:, None], train=False))
        return np.concatenate([units, np.ones((len(x), 1))], axis=1)

    wanted = {name: np.stack([f(x) for f in TARGETS.values()], 1) for name, x in points.items()}
    outer, *_ = np.linalg.lstsq(hidden(points["fit"]), wanted["fit"], rcond=1e-12)
    errors = np.abs(hidden(points["test"]) @ outer - wanted["test"]).max(axis=0)
    found = {"errors": {name: float(f"{e:.4g}") for name, e in zip(TARGETS, errors)}}
    if seed == 0 and width in DRAWN:
        fitted = hidden(np.linspace(-1, 1, 201)) @ outer
        found["fits"] = dict(zip(TARGETS, np.round(fitted.T, 4).tolist()))
    return found


def uniform(scale: float):
    """Values between -scale and scale."""
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(
        key, shape, dtype, -scale, scale
    )


def middle(archive: dict, target: str) -> list[tuple[int, float]]:
    """Of every width the median of the seeds' errors."""
    errors = {}
    for result in archive["results"]:
        errors.setdefault(result["width"], []).append(result["errors"][target])
    return [(width, statistics.median(found)) for width, found in errors.items()]


def table(archive: dict) -> str:
    """The table of README.md."""
    widths = dict.fromkeys(result["width"] for result in archive["results"])
    shown = [width for width in widths if width in (1, 4, 16, 64, 256, 1024)]
    rows = [("largest error on [-1, 1], hidden units", *map(str, shown))]
    for target in TARGETS:
        errors = dict(middle(archive, target))
        name = target.replace("|", "\\|")  # a bar would end the cell
        rows.append((name, *(f"{errors[width]:.1e}" for width in shown)))
    return f"{format_table(rows)}\n\n{origin(archive)} Medians of {name_seeds(archive)}."


def figure(archive: dict):
    """A rough function and its fits, and the largest error by width."""
    import matplotlib.pyplot as plt

    drawn, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    x = np.linspace(-1, 1, 2001)
    left.plot(x, TARGETS["sqrt |x|"](x), color="black", linewidth=1, label="sqrt |x|")
    for result in archive["results"]:
        if "fits" in result:
            fitted = result["fits"]["sqrt |x|"]
            points = np.linspace(-1, 1, len(fitted))
            left.plot(points, fitted, linewidth=1, label=DRAWN[result["width"]])
    left.set(title="fits of one seed", xlabel="x", ylabel="y")
    left.legend()
    for target in TARGETS:
        right.loglog(*zip(*middle(archive, target)), "o-", markersize=3, label=target)
    right.set(title=f"median of {name_seeds(archive)}", xlabel="hidden units")
    right.set_ylabel("largest error on [-1, 1]")
    right.grid(alpha=0.3)
    right.legend()
    return drawn


if __name__ == "__main__":
    run_from_shell(NAME, main, Config)
