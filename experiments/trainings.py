"""Short trainings of small networks: one program for all rates, their curves, their layers."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax

import convnets
from convnets.data import index_batches

POINTS = 50  # of a curve, each the mean over as many steps as lie between two of them


def optimizer_with_rate(name: str, rate: float, **options) -> optax.GradientTransformation:
    """`convnets.create_optimizer` whose rate lies in its state, so that one program serves all."""

    def build(rate):
        return convnets.create_optimizer(name, lambda count: rate, **options)

    return optax.inject_hyperparams(build)(rate)


def compile_on(step, source, steps: int):
    """The step on one device, a point of the curve in a call, its batches indices of a source."""
    examples = {"image": source.images, "label": source.labels}
    return convnets.parallel.compile(
        step, examples=examples, devices=1, steps_per_call=max(1, steps // POINTS)
    )


def initial_state(network, dataset, optimizer, seed: int) -> convnets.TrainState:
    """Of a network for the images of a data set."""
    init_key, key = jax.random.split(jax.random.key(seed))
    images = jnp.zeros((1, *dataset.image_shape))
    variables = _initialization(network)(init_key, images, train=False)
    return convnets.TrainState.create(
        variables, optimizer, key, normalization=dataset.normalization
    )


@functools.cache
def _initialization(network):
    return jax.jit(network.init, static_argnames="train")


def record(step, state, source, batch_size: int, steps: int, seed: int):
    """Trains; the last state, and the curve: losses over as many steps each, None where one is no
    number.

    Args:
      step: from `compile_on`, for the same source and number of steps.
    """
    curve = []
    batches = index_batches(source, batch_size, seed=seed)
    for _, last, measured in convnets.train(step, state, batches, stop=steps):  # noqa: B007
        curve.append(rounded(convnets.metrics.finish(measured)["loss"]))
    return convnets.parallel.gather(last), curve


def points(curve: list, steps: int) -> list[tuple[float, float]]:
    """`(step, loss)` of a curve over so many steps, without what is no number."""
    return [
        (number * steps / len(curve), loss)
        for number, loss in enumerate(curve, 1)
        if loss is not None
    ]


def last_loss(curve: list) -> float | None:
    """The mean over the last tenth of a curve; None where a loss of it is no number."""
    losses = curve[-max(1, len(curve) // 10) :]
    return None if None in losses else rounded(float(np.mean(losses)))


def choose_rate(trials: list[list[dict]], measure: str) -> float:
    """The rate with the least mean of a measure over all repetitions; None counts as infinite.

    Args:
      trials: of each repetition, a dict for each rate, with `rate` and the measure.
    """

    def mean(rate):
        found = [trial[measure] for each in trials for trial in each if trial["rate"] == rate]
        return math.inf if None in found else sum(found) / len(found)

    return min((trial["rate"] for trial in trials[0]), key=mean)


def make_layer_norms(network, loss_fn):
    """`(state, batch) -> activations, gradients`, a number for each hidden layer and the head.

    Of the activations it is the root of their mean square, the last of the logits; of the gradients
    the norm with respect to the layer's kernel. The layers of the backbone are `dense1`, ….
    """

    @jax.jit
    def layer_norms(state, batch):
        images = convnets.prepare(batch["image"], state.normalization)
        endpoints = network.apply(state.variables(), images, train=False, method="endpoints")
        grads, _, _ = convnets.gradient(loss_fn)(state, batch)
        names = [f"dense{number}" for number in range(1, len(grads["backbone"]) + 1)]
        kernels = [grads["backbone"][name]["kernel"] for name in names] + [grads["head"]["kernel"]]
        outputs = [endpoints[name] for name in [*names, "logits"]]
        activations = jnp.stack([jnp.sqrt(jnp.mean(jnp.square(x))) for x in outputs])
        # Of the largest value apart, for the squares of what has faded are 0 in float32.
        largest = jnp.stack([jnp.abs(kernel).max() for kernel in kernels])
        scale = jnp.where(largest > 0, largest, 1)
        norms = [jnp.linalg.norm(kernel / s) for kernel, s in zip(kernels, scale)]
        return activations, scale * jnp.stack(norms)

    def on_host(state, batch):
        return tuple([rounded(x) for x in norms.tolist()] for norms in layer_norms(state, batch))

    return on_host


def rounded(x: float) -> float | None:
    """To four digits; None for what is no number."""
    return float(f"{x:.4g}") if math.isfinite(x) else None
