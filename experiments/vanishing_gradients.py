"""Thirty sigmoid layers lose the gradient; tanh, ReLU and shortcuts bring it to the first layer.

Command:    python experiments/vanishing_gradients.py
Hardware:   see results/vanishing_gradients.json
Minutes:    see there
Reference:  Glorot and Bengio 2010, "Understanding the difficulty of training deep feedforward
            neural networks", figures 6 and 7; He, Zhang, Ren, Sun 2015, "Deep residual learning",
            section 1, and 2016, "Identity mappings", equation 5
Ours:       see the figure of README.md, made from results/vanishing_gradients.json

Stacks of 30 dense layers of 64 units on the embedded digits, each started as suits its activation:
sigmoid and tanh by Glorot and Bengio, ReLU by He et al. Of every layer's kernel the norm of the
gradient is archived, over the same 256 images, before the first step and after the last, and the
training loss. The residual stack adds each layer to what it had before, `x + W relu(x)`; its
kernels have He's variance divided by the depth, for the sums would else double from layer to layer.
"""

import dataclasses
from collections.abc import Callable
from functools import partial

import flax.linen as nn
from cases import Common, require_known, run_cases, run_from_shell
from tables import format_table, name_seeds, origin
from trainings import (
    compile_on,
    initial_state,
    last_loss,
    make_layer_norms,
    optimizer_with_rate,
    record,
)

import convnets
from convnets.layers import Dense, glorot_normal, he_normal, relu, sigmoid, tanh
from convnets.layers.initializers import Initializer
from convnets.models.classifier import Classifier, flatten
from convnets.models.perceptron import MLP

NAME = "vanishing_gradients"


@dataclasses.dataclass(frozen=True)
class Config(Common):
    """Measure the gradients of deep stacks before and after some training and archive them."""

    seeds: tuple[int, ...] = (0, 1, 2)
    stacks: tuple[str, ...] = ("sigmoid", "tanh", "ReLU", "residual")
    depth: int = 30
    width: int = 64
    rate: float = 0.003
    steps: int = 500
    batch_size: int = 64


class ResidualMLP(nn.Module):
    """As `convnets.models.perceptron.MLP`, but each layer behind the first adds to its input."""

    features: tuple[int, ...]
    activation: Callable = relu
    kernel_init: Initializer = he_normal()

    @nn.compact
    def __call__(self, images, *, train: bool) -> dict:
        endpoints, x = {}, Dense(self.features[0], name="dense1")(flatten(images))
        endpoints["dense1"] = x
        for number, features in enumerate(self.features[1:], 2):
            dense = Dense(features, kernel_init=self.kernel_init, name=f"dense{number}")
            x = endpoints[f"dense{number}"] = x + dense(self.activation(x))
        return endpoints


def weakened(initializer: Initializer, depth: int) -> Initializer:
    """The same with its variance divided by the depth."""
    return lambda key, shape, dtype: initializer(key, shape, dtype) / depth**0.5


STACKS = {
    "sigmoid": lambda depth: partial(MLP, activation=sigmoid, kernel_init=glorot_normal()),
    "tanh": lambda depth: partial(MLP, activation=tanh, kernel_init=glorot_normal()),
    "ReLU": lambda depth: partial(MLP, activation=relu, kernel_init=he_normal()),
    "residual": lambda depth: partial(ResidualMLP, kernel_init=weakened(he_normal(), depth)),
}


def main(config: Config) -> None:
    require_known("stack", config.stacks, STACKS)
    small = {"stacks": ("residual",), "depth": 3, "steps": 2, "seeds": (0,)} if config.quick else {}
    used = dataclasses.replace(config, **small)
    dataset = convnets.load_dataset("digits")
    cases = [{"stack": stack, "seed": seed} for stack in used.stacks for seed in used.seeds]
    networks = {stack: create_network(used, stack) for stack in used.stacks}
    programs = {}

    def run(case, folder):
        network = networks[case["stack"]]
        if network not in programs:
            programs[network] = compile_programs(used, dataset, network)
        return measure(used, dataset, network, programs[network], case["seed"])

    run_cases(NAME, config, cases, run)


def create_network(config: Config, stack: str) -> Classifier:
    features = (config.width,) * (config.depth - 1)
    return Classifier(STACKS[stack](config.depth)(features), num_classes=10)


def compile_programs(config: Config, dataset, network):
    """The training step and the norms of the layers."""
    loss_fn = convnets.classification_loss(network, normalization=dataset.normalization)
    step = convnets.make_step(loss_fn, optimizer_with_rate("momentum", config.rate))
    return compile_on(step, dataset.train, config.steps), make_layer_norms(network, loss_fn)


def measure(config: Config, dataset, network, programs, seed: int) -> dict:
    """The norms before and after a training, and its loss."""
    step, layer_norms = programs
    batch = dataset.train.batch(range(256))
    start = initial_state(network, dataset, optimizer_with_rate("momentum", config.rate), seed)
    activations, gradients = layer_norms(start, batch)
    state, curve = record(step, start, dataset.train, config.batch_size, config.steps, seed)
    return {
        "last_loss": last_loss(curve),
        "activations": activations,
        "gradients": gradients,
        "trained_gradients": layer_norms(state, batch)[1],
    }


def ratio(gradients: list[float]) -> float:
    """The gradient of the first layer over that of the last hidden one."""
    return gradients[0] / gradients[-2]


def middle(archive: dict, stack: str, measure: Callable[[dict], float]) -> float:
    """The median of a measure over the seeds of a stack."""
    found = sorted(measure(result) for result in archive["results"] if result["stack"] == stack)
    return found[len(found) // 2]


def table(archive: dict) -> str:
    """The table of README.md."""
    settings = archive["settings"]
    rows = [
        (
            f"{settings['depth']} layers, gradient of the first over that of the last hidden",
            "before training",
            f"after {settings['steps']} steps",
            "training loss then",
        )
    ]
    for stack in dict.fromkeys(result["stack"] for result in archive["results"]):
        rows.append(
            (
                stack,
                f"{middle(archive, stack, lambda result: ratio(result['gradients'])):.1g}",
                f"{middle(archive, stack, lambda result: ratio(result['trained_gradients'])):.1g}",
                f"{middle(archive, stack, lambda result: result['last_loss']):.3f}",
            )
        )
    return f"{format_table(rows)}\n\n{origin(archive)} Medians of {name_seeds(archive)}."


def figure(archive: dict):
    """The norm of each layer's gradient before and after the training."""
    import matplotlib.pyplot as plt

    drawn, axes = plt.subplots(1, 2, figsize=(10, 3.6), sharey=True, layout="constrained")
    titles = ("before training", f"after {archive['settings']['steps']} steps")
    for axis, name, title in zip(axes, ("gradients", "trained_gradients"), titles):
        for number, stack in enumerate(STACKS):
            label = stack
            for result in archive["results"]:
                if result["stack"] == stack:
                    layers = range(1, len(result[name]) + 1)
                    axis.semilogy(
                        layers, result[name], color=f"C{number}", linewidth=1.2, label=label
                    )
                    label = None
        axis.set(title=title, xlabel="layer")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("norm of the gradient of the kernel")
    axes[0].legend()
    return drawn


if __name__ == "__main__":
    run_from_shell(NAME, main, Config)
