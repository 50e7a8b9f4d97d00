"""A perceptron errs no more often than its bound, and gradients by hand are those of JAX.

Command:    python experiments/perceptrons.py
Hardware:   see results/perceptrons.json
Minutes:    see there
Reference:  Novikoff 1962: at most (R / gamma)^2 mistakes; scikit-learn's optima of logistic
            regression and the linear SVM; `jax.grad`
Ours:       see the table of README.md, made from results/perceptrons.json

From the units of 1943 to back-propagation, each learned by its own rule: threshold units that are
any Boolean function; Rosenblatt's perceptron on a fixed random layer, even digits against odd ones
until none is wrong; Adaline on its way to the least squares; Madaline Rule II on parity; logistic
regression and the linear SVM; and the modules of Collobert's lecture (2015), whose derivatives are
written by hand, in chains. Two of them are printed there with a wrong sign or without a factor; how
far the printed gradient is off stands in the table's last column.
"""

import dataclasses
import statistics

import perceptron_parts as parts
from cases import Common, require_known, run_cases, run_from_shell
from tables import format_table, origin

import convnets

NAME = "perceptrons"
RUNS = {
    "truth tables": parts.run_truth_tables,
    "mistakes": parts.run_mistakes,
    "accuracy": parts.run_accuracy,
    "Adaline": parts.run_adaline,
    "Madaline": parts.run_madaline,
    "linear": parts.run_linear,
    "module": parts.run_module,
}
MODULES = ("linear", "tanh", "sigmoid", "ReLU", "perceptron loss", "squared error", "likelihood")
MODULES += ("Adaline", "log(cos(exp(sin³ x)))", "two-layer network")


@dataclasses.dataclass(frozen=True)
class Config(Common):
    """Run every system of single units, and archive what each finds."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """Of the random features."""
    features: tuple[int, ...] = (0, 32, 64, 128, 256, 512, 1024, 2048, 4096)
    """How many random features; 0 for the retina itself."""
    inputs: tuple[int, ...] = (1, 2, 3, 4)
    """Bits of the Boolean functions; of parity, from 2 on."""
    examples: int = 500
    """Digits among which mistakes are counted."""
    epochs: int = 1000
    """At most, of the perceptron that counts mistakes, and of the linear SVM."""
    accuracy_epochs: int = 30
    rates: tuple[str, ...] = ("0.01", "0.001", "falling")
    """Of Adaline."""
    adaline_epochs: int = 500
    madaline_rate: float = 1.5
    madaline_epochs: int = 200
    hidden: tuple[int, ...] = (1, 2)
    """Units of Madaline's first layer, times the inputs."""
    starts: int = 100
    """First weights of each Madaline."""
    pairs: tuple[str, ...] = ("3/8", "4/9")
    """Digits that the linear classifiers tell apart."""
    strengths: tuple[float, ...] = (0.01, 1.0)
    """Of their losses against the norm."""
    steps: int = 20
    """Of Newton's method."""
    modules: tuple[str, ...] = MODULES
    """Whose gradients are written by hand."""
    draws: int = 20
    """Random inputs of each module."""


QUICK = {
    "seeds": (0,),
    "features": (256,),
    "inputs": (2,),
    "examples": 60,
    "epochs": 50,
    "accuracy_epochs": 2,
    "rates": ("falling",),
    "adaline_epochs": 3,
    "hidden": (1,),
    "starts": 3,
    "madaline_epochs": 20,
    "pairs": ("3/8",),
    "strengths": (0.01,),
    "steps": 3,
    "modules": ("perceptron loss", "Adaline"),
    "draws": 1,
}


def main(config: Config) -> None:
    require_known("module", config.modules, MODULES)
    used = dataclasses.replace(config, **QUICK if config.quick else {})
    dataset = convnets.load_dataset("digits")

    def run(case, folder):
        return RUNS[case["part"]](used, dataset, **{k: x for k, x in case.items() if k != "part"})

    run_cases(NAME, config, list_cases(used), run)


def list_cases(config: Config) -> list[dict]:
    """One case each, the short ones first."""
    drawn = [{"features": n, "seed": seed} for n in config.features for seed in config.seeds]
    drawn = [case for case in drawn if case["features"] or case["seed"] == config.seeds[0]]
    sizes = [{"inputs": n, "hidden": k * n} for n in config.inputs if n > 1 for k in config.hidden]
    solved = [
        {"method": method, "digits": digits, "strength": strength}
        for method in ("logistic regression", "linear SVM")
        for digits in config.pairs
        for strength in config.strengths
    ]
    cases = {
        "truth tables": [{"inputs": inputs} for inputs in config.inputs],
        "module": [{"module": module} for module in config.modules],
        "Adaline": [{"rate": rate} for rate in config.rates],
        "mistakes": drawn,
        "accuracy": drawn,
        "Madaline": sizes,
        "linear": solved,
    }
    return [{"part": part, **case} for part, listed in cases.items() for case in listed]


def table(archive: dict) -> str:
    """The tables of README.md."""
    found = {part: [x for x in archive["results"] if x["part"] == part] for part in RUNS}
    ratios = [x["mistakes"] / x["bound"] for x in found["mistakes"] if x["separable"]]
    accuracy = mean_accuracy(found["accuracy"])
    rows = [("system", "measured", "found")]
    total, right = (sum(x[name] for x in found["truth tables"]) for name in ("functions", "right"))
    bits = max((x["inputs"] for x in found["truth tables"]), default=0)
    rows.append(("threshold units", f"functions of 1 to {bits} bits", f"{right:,} of {total:,}"))
    if ratios:
        what = f"mistakes / bound, {len(ratios)} separable runs"
        rows.append(("perceptron", what, f"{min(ratios):.2f} - {max(ratios):.2f}"))
    for features in sorted({0, 256, *sorted(accuracy)[-1:]} & accuracy.keys()):
        name = f"{features:,} random features" if features else "the retina itself"
        percent = f"{100 * accuracy[features]:.1f} %"
        rows.append((f"perceptrons on {name}", "test accuracy on the digits", percent))
    for x in found["Adaline"]:
        name = f"Adaline, rate {x['rate']}"
        rows.append((name, "relative distance to the least squares", f"{x['distance']:.4f}"))
    for x in found["Madaline"]:
        name = f"Madaline, {x['hidden']} hidden units"
        rows.append((name, f"parity of {x['inputs']} bits", f"{x['solved']} of {x['starts']}"))
    for method in dict.fromkeys(x["method"] for x in found["linear"]):
        excess = max(abs(x["excess"]) for x in found["linear"] if x["method"] == method)
        rows.append((method, "objective / scikit-learn's - 1, at most", f"{excess:.0e}"))
    modules = [("gradient by hand", "off JAX's", "off central differences", "as printed")]
    for x in found["module"]:
        printed = "" if x["as_printed"] is None else f"{x['as_printed']:.1f}"
        off = [f"{x[name]:.0e}" if x[name] else "0" for name in ("from_jax", "from_differences")]
        modules.append((x["module"], *off, printed))
    return f"{format_table(rows)}\n\n{format_table(modules)}\n\n{origin(archive)}"


def mean_accuracy(lines) -> dict:
    """Of each number of features, over the seeds."""
    numbers = sorted({x["features"] for x in lines})
    return {
        n: statistics.mean(x["test_accuracy"] for x in lines if x["features"] == n) for n in numbers
    }


def figure(archive: dict):
    """Mistakes against their bound, accuracy by number of features, and Adaline's way."""
    import matplotlib.pyplot as plt

    found = {part: [x for x in archive["results"] if x["part"] == part] for part in RUNS}
    drawn, axes = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    separable = [x for x in found["mistakes"] if x["separable"]]
    for features in sorted({x["features"] for x in separable}):
        lines = [(x["bound"], x["mistakes"]) for x in separable if x["features"] == features]
        name = f"{features} features" if features else "the retina itself"
        axes[0].plot(*zip(*lines), "o", label=name)
    if separable:
        ends = min(x["mistakes"] for x in separable), max(x["bound"] for x in separable)
        axes[0].plot(ends, ends, "k-", linewidth=1, label="the bound")
    axes[0].set(xscale="log", yscale="log", xlabel="(R / gamma)²", ylabel="mistakes")
    axes[0].set_title("even and odd digits, until none is wrong")
    accuracy = mean_accuracy(found["accuracy"])
    for split, style in (("train", "--"), ("test", "-")):
        lines = [x for x in found["accuracy"] if x["features"]]
        axes[1].plot(
            [x["features"] for x in lines], [100 * x[f"{split}_accuracy"] for x in lines], "C0."
        )
        numbers = sorted({x["features"] for x in lines})
        means = [
            statistics.mean(100 * x[f"{split}_accuracy"] for x in lines if x["features"] == n)
            for n in numbers
        ]
        axes[1].plot(numbers, means, f"C0{style}", label=f"{split}, mean of the seeds")
    if 0 in accuracy:
        axes[1].axhline(100 * accuracy[0], color="C1", label="test, the retina itself")
    axes[1].set(xscale="log", xlabel="random features", ylabel="accuracy [%]")
    axes[1].set_title("perceptrons, ten digits")
    for x in found["Adaline"]:
        axes[2].plot(*zip(*x["curve"]), label=f"rate {x['rate']}")
    axes[2].set(xscale="log", yscale="log", xlabel="epoch", ylabel="distance / length")
    axes[2].set_title("Adaline and the least-squares solution")
    for axis in axes:
        if axis.has_data():  # of what is archived up to now
            axis.legend(fontsize=8)
        axis.grid(alpha=0.3)
    return drawn


if __name__ == "__main__":
    run_from_shell(NAME, main, Config)
