"""The parts of `perceptrons.py`: each runs one case of one system and tells what it found."""

import warnings
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from optax.losses import hinge_loss
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC, LinearSVC

from convnets import units
from convnets.losses import logistic_loss
from convnets.units import backpropagation as hand

CONNECTIONS = {"excitatory": 8, "inhibitory": 8}
LINES = 50  # of a curve, at most

# What is trained on -----------------------------------------------------------------------------


def read(source, digits=tuple(range(10))) -> tuple:
    """Images from 0 to 1 as rows, and labels, of some digits."""
    batch = source.batch(np.flatnonzero(np.isin(source.labels, digits)))
    return batch["image"].reshape(len(batch["label"]), -1) / np.float64(255), batch["label"]


def associate(images, features: int, seed: int):
    """What random units make of a retina of black and white, and a column of ones. No units: the
    retina itself."""
    x = jnp.asarray(images > 0.5, jnp.float32)
    if features:
        key = jax.random.key(seed)
        connected = units.association_units(key, x.shape[1], features, **CONNECTIONS)
        x = units.threshold_units(x, *connected)
    return with_ones(x)


def with_ones(x):
    return jnp.concatenate([x, jnp.ones((len(x), 1), x.dtype)], 1)


# The parts --------------------------------------------------------------------------------------


def run_truth_tables(config, dataset, inputs: int) -> dict:
    """All Boolean functions of so many bits, as networks of threshold units."""
    functions = np.arange(2 ** (2**inputs))[:, None] >> np.arange(2**inputs) & 1
    layers = jax.vmap(units.disjunctive_layers)(functions)
    rows = units.truth_rows(inputs)
    outputs = jax.vmap(partial(units.run_threshold_layers, x=rows))(layers)[:, :, 0]
    right = np.all(np.asarray(outputs) == functions, 1)
    return {"functions": len(functions), "right": int(right.sum())}


def run_mistakes(config, dataset, features: int, seed: int) -> dict:
    """Even digits against odd ones until none is wrong; the bound by the largest margin."""
    images, labels = read(dataset.train)
    phi = associate(images[: config.examples], features, seed)
    y = np.where(labels[: config.examples] % 2 == 0, 1.0, -1.0)
    # With each example's mirror image besides, the widest separation goes through the origin.
    mirrored = np.concatenate([y[:, None] * phi, -y[:, None] * phi])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it stops: then it separates as it is, or does not
        svm = SVC(kernel="linear", C=1e8, max_iter=200_000).fit(
            mirrored, np.repeat([1, -1], len(y))
        )
    bound = float(units.mistake_bound(phi, jnp.asarray(y), jnp.asarray(svm.coef_[0], phi.dtype)))
    _, mistakes = units.train_perceptron(phi, jnp.asarray(y), epochs=config.epochs)
    return {
        "separable": bool(np.isfinite(bound)),
        "bound": bound if np.isfinite(bound) else None,
        "mistakes": int(mistakes.sum()),
        "mistakes_in_the_last_epoch": int(mistakes[-1]),
        "epochs_with_mistakes": int((mistakes > 0).sum()),
    }


def run_accuracy(config, dataset, features: int, seed: int) -> dict:
    """Ten digits, each against the rest, by perceptrons on the same random features."""
    found = {}
    (images, labels), test = read(dataset.train), read(dataset.test)
    phi, y = associate(images, features, seed), 2.0 * (np.arange(10)[:, None] == labels) - 1
    train = partial(units.train_perceptron, epochs=config.accuracy_epochs)
    weights, _ = jax.vmap(train, (None, 0))(phi, jnp.asarray(y))
    shown = {"train": (phi, labels), "test": (associate(test[0], features, seed), test[1])}
    for split, (inputs, right) in shown.items():
        found[f"{split}_examples"] = len(right)
        found[f"{split}_accuracy"] = float(np.mean(np.argmax(inputs @ weights.T, 1) == right))
    return found


def run_adaline(config, dataset, rate: str) -> dict:
    """3 against 8 on 16 averages of pixels, decorrelated: the way to the least squares."""
    images, labels = read(dataset.train, (3, 8))
    x = images.reshape(-1, 4, 7, 4, 7).mean((2, 4)).reshape(-1, 16)
    x = np.linalg.svd(x - x.mean(0), full_matrices=False)[0] * np.sqrt(len(x))
    with jax.enable_x64(True):
        x, y = with_ones(jnp.asarray(x)), np.where(labels == 3, 1.0, -1.0)
        longest = float((x**2).sum(1).max())
        rate_of = (lambda step: 1 / (longest + step)) if rate == "falling" else float(rate)
        train = partial(units.train_adaline, rate=rate_of, epochs=config.adaline_epochs)
        path = np.asarray(train(x, jnp.asarray(y)))
    goal = np.linalg.lstsq(x, y, rcond=None)[0]
    distances = np.linalg.norm(path - goal, axis=1) / np.linalg.norm(goal)
    shown = np.unique(np.geomspace(1, len(path), LINES).astype(int))
    return {
        "distance": float(distances[-1]),
        "curve": [[int(epoch), float(f"{distances[epoch - 1]:.4g}")] for epoch in shown],
    }


def run_madaline(config, dataset, inputs: int, hidden: int) -> dict:
    """Parity, from many first weights; two inputs are exclusive or."""
    x = 2 * units.truth_rows(inputs) - 1
    y = jnp.prod(x, 1, keepdims=True)

    def train(key):
        first, second = jax.random.split(key)
        params = units.initialize_madaline(first, inputs, hidden)
        options = dict(epochs=config.madaline_epochs, rate=config.madaline_rate)
        return units.train_madaline(params, x, y, second, **options)[1]

    errors = np.asarray(jax.vmap(train)(jax.random.split(jax.random.key(0), config.starts)))
    solved = errors[:, -1] == 0
    epochs = 1 + np.argmax(errors == 0, 1)[solved]
    return {
        "starts": len(solved),
        "solved": int(solved.sum()),
        "median_epochs": float(np.median(epochs)) if solved.any() else None,
    }


def run_linear(config, dataset, method: str, digits: str, strength: float) -> dict:
    """One digit against another; our solution beside scikit-learn's of the same objective."""
    first, second = map(int, digits.split("/"))
    images, labels = read(dataset.train, (first, second))
    options = dict(C=strength, fit_intercept=False, tol=1e-10)
    with jax.enable_x64(True):
        x, y = with_ones(jnp.asarray(images)), np.where(labels == first, 1, -1)
        if method == "logistic regression":
            loss, peer = logistic_loss, LogisticRegression(**options, max_iter=10_000)
            train = partial(units.train_logistic_regression, steps=config.steps)
        else:
            loss, peer = hinge_loss, LinearSVC(**options, loss="hinge", max_iter=1_000_000)
            train = partial(units.train_linear_svm, key=jax.random.key(0), epochs=config.epochs)
        weights = np.asarray(train(x, jnp.asarray(y), strength=strength)[0])
        goal = peer.fit(x, y).coef_[0]
        value, least = (
            float(units.linear_objective(w, x, y, loss=loss, strength=strength))
            for w in (weights, goal)
        )
    return {
        "objective": value,
        "excess": value / least - 1,
        "distance": float(np.linalg.norm(weights - goal) / np.linalg.norm(goal)),
    }


def run_module(config, dataset, module: str) -> dict:
    """The largest deviations of a gradient by hand over some random inputs, in float64."""
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(0), config.draws)
        found = jax.device_get(jax.jit(jax.vmap(partial(deviations, module)))(keys))
    return {name: None if x is None else float(x.max()) for name, x in found.items()}


def build(name: str, key):
    """The modules of a name, the shapes of their weights, and them as a lecture prints them."""
    target, sign = jax.random.normal(key, (4,)), jax.random.rademacher(key, (4,), float)
    loss, error = hand.perceptron_loss(sign), hand.squared_error(target[:1])
    printed_loss = loss._replace(backward=lambda dy, x, y, weights: -1.0 * (sign * x <= 0) * dy)
    printed_error = error._replace(backward=lambda dy, x, y, weights: (target[:1] - x) * dy)
    chain = [hand.SIN, hand.CUBE, hand.EXP, hand.COS, hand.LOG]
    likelihood = hand.negative_log_likelihood(jax.random.randint(key, (), 0, 3))
    network = [hand.LINEAR, hand.TANH, hand.LINEAR, likelihood]
    return {
        "linear": ([hand.LINEAR], [(3, 4)], None),
        "tanh": ([hand.TANH], [None], None),
        "sigmoid": ([hand.SIGMOID], [None], None),
        "ReLU": ([hand.RELU], [None], None),
        "perceptron loss": ([loss], [None], [printed_loss]),
        "squared error": ([hand.squared_error(target)], [None], None),
        "likelihood": ([likelihood], [None], None),
        "Adaline": ([hand.LINEAR, error], [(1, 4), None], [hand.LINEAR, printed_error]),
        "log(cos(exp(sin³ x)))": (chain, [None] * 5, None),
        "two-layer network": (network, [(5, 4), None, (3, 5), None], None),
    }[name]


def deviations(name: str, key, step=1e-5) -> dict:
    """Of the gradient by hand from JAX's and from central differences; of the printed from JAX's.

    All as shares of its largest entry.
    """
    kinds, of_x, of_weights, of_dy = jax.random.split(key, 4)
    modules, shapes, printed = build(name, kinds)
    weights = [shape and jax.random.normal(of_weights, shape) for shape in shapes]
    x = jax.random.uniform(of_x, (4,), minval=-0.8, maxval=0.8)
    start, restore = ravel_pytree((x, weights))
    dy = jax.random.normal(of_dy, hand.forward_pass(modules, weights, x)[-1].shape)

    def value(flat):
        x, weights = restore(flat)
        return jnp.vdot(dy, hand.forward_pass(modules, weights, x)[-1])

    def by_hand(modules):
        values = hand.forward_pass(modules, weights, x)
        return ravel_pytree(hand.backward_pass(modules, weights, values, dy))[0]

    moves = step * jnp.eye(len(start))
    ahead, behind = jax.vmap(value)(start[None] + moves), jax.vmap(value)(start[None] - moves)
    gradient = jax.grad(value)(start)

    def share(a, b):
        return jnp.abs(a - b).max() / jnp.maximum(jnp.abs(gradient).max(), 1e-9)

    return {
        "from_jax": share(by_hand(modules), gradient),
        "from_differences": share(by_hand(modules), (ahead - behind) / (2 * step)),
        "as_printed": None if printed is None else share(by_hand(printed), gradient),
    }
