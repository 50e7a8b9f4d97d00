"""Is the gradient of every layer the derivative of what it computes?"""

import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..ops.image import prepare
from ..runs import with_precision
from .calls import call_alone, is_float, record_calls, variables_of
from .finding import NOT_CHECKED, Finding, judge

IMAGES = 2
STEPS = tuple(10.0**-n for n in range(3, 8))  # of the differences, as shares of a value's norm
ALIKE = 1e-4  # two steps tell the same derivative where they differ by less than this share
TOLERANCE = 1e-3
QUICK = {"xla_backend_optimization_level": 0}  # each program runs once, so compile it fast


class Mistake(NamedTuple):
    """Of a module: with respect to what, the derivative by gradient, by differences, the error."""

    path: str
    name: str
    gradient: float
    difference: float
    error: float


def check_gradients(
    model, dataset, variables, *, normalization=None, seconds: float = 120.0, seed: int = 0
) -> Finding:
    """Compares the gradient of every layer with differences of its outputs, in float64.

    Each module is taken by itself, with the inputs that it has in the network on two images, and
    the modules that it calls cut out of it: of a random projection of what it makes, the derivative
    along a random direction of each of its own parameters, of its inputs, and of what its modules
    return, by `jax.grad` and by central differences. So a wrong `custom_vjp` is found in the module
    in which it stands. What steps of several sizes do not agree about (noise of float32 inside, a
    kink) is not judged. Modules that are alike, down to the shapes, are checked once. Images and
    parameters get some noise, for networks often begin on a kink. `jax_enable_x64` is set for the
    length of the check, in this thread alone.

    Args:
      model, dataset: as in `fit`.
      variables: `{"params": …, "batch_stats": …}`.
      normalization: of the images; None for the data set's own.
      seconds: after which no further module is begun.
      seed: of noise, projections, directions and dropout.

    Returns: one finding; `not checked` also where layers stand within a loop or a jit of Flax.

    Reference: Bottou 2012, "Stochastic gradient descent tricks": check the gradients using finite
    differences.
    """
    begin = time.monotonic()
    normalization = dataset.normalization if normalization is None else normalization
    images = dataset.train.batch(np.arange(min(IMAGES, len(dataset.train))))["image"]
    images = np.asarray(prepare(images, normalization), np.float64)
    mistakes, unjudged, late, seen = [], 0, 0, set()
    with jax.enable_x64(True):
        images = jnp.asarray(_jitter(images, seed))
        variables = jax.tree.map(lambda x: np.asarray(x, np.float64), dict(variables))
        variables["params"] = _jitter(variables["params"], seed)
        variables = jax.tree.map(jnp.asarray, variables)
        if hasattr(model, "dtype"):
            model = with_precision(model, "float64")
        try:
            calls = record_calls(
                without_checkpoints(model), variables, images, jax.random.key(seed)
            )
        except jax.errors.UnexpectedTracerError:
            text = "layers within nn.scan, nn.remat, nn.jit or nn.vmap cannot be taken apart"
            return Finding("gradients", "", NOT_CHECKED, None, "", text)
        for call in calls:
            shapes = [x.shape for x in jax.tree.leaves(call.arrays)]
            kind = repr(call.module), str(shapes), str(call.given.rest)
            if kind in seen:
                continue
            seen.add(kind)
            if time.monotonic() - begin > seconds:
                late += 1
                continue
            found = _compare(call, variables_of(variables, call.path), seed)
            unjudged += found == []
            if found:
                mistakes.append(max(found, key=lambda mistake: mistake.error))
    return _describe(mistakes, unjudged, late)


def without_checkpoints(model):
    """The same network, whose backbone keeps all activations."""
    backbone = getattr(model, "backbone", None)
    if not getattr(backbone, "checkpoint", False):
        return model
    return model.clone(backbone=backbone.clone(checkpoint=False))


def _describe(mistakes, unjudged, late):
    """The finding of every module's worst error."""
    if not mistakes:
        text = "nothing could be compared: the layers compute in float32 or less"
        if late:
            text = f"there was no time for any of {late + unjudged} kinds of layers"
        return Finding("gradients", "", NOT_CHECKED, None, "", text)
    wrong = [mistake for mistake in mistakes if mistake.error > TOLERANCE]
    worst = max(mistakes, key=lambda mistake: mistake.error)
    found = f"{len(mistakes)} kinds of layers agree with differences in float64"
    if wrong:
        found = (
            f"{worst.path}: the derivative by {worst.name} is {worst.difference:.4g}, its gradient "
            f"says {worst.gradient:.4g}"
        )
        others = [mistake.path for mistake in wrong if mistake is not worst]
        found += f"; wrong too: {', '.join(others)}" if others else ""
    found += f" ({unjudged} not judged)" if unjudged else ""
    found += f" (no time for {late} more)" if late else ""
    return Finding(
        "gradients",
        "",
        judge(bool(wrong)),
        worst.error,
        "relative error",
        found,
        "Mend the custom gradient (custom_vjp, custom_jvp, stop_gradient) of that layer; one that "
        "is meant to differ, as a straight-through estimator, may stay.",
    )


def _compare(call, variables, seed) -> list[Mistake]:
    """The derivatives of one module, as far as they can be judged."""
    params = variables.pop("params", {})
    own = {name: x for name, x in params.items() if is_float(x)}
    values = (own, *call.arrays)
    if not jax.tree.leaves(values):
        return []
    names = [*own, "its input", "what its layers return"]
    groups = [*([n] for n in range(len(own)))]
    groups.append(range(len(own), len(own) + len(call.given.arrays)))
    groups.append(range(groups[-1].stop, len(jax.tree.leaves(values))))
    names, groups = zip(*((name, group) for name, group in zip(names, groups) if group))

    def scalar(values):
        own, given, inner = values
        variables_now = {"params": params | own, **variables}
        made = call_alone(call, variables_now, given, inner, jax.random.key(seed))
        rng = np.random.default_rng((seed, 1))
        parts = [x * rng.standard_normal(x.shape) / max(x.size, 1) ** 0.5 for x in made]
        return sum((jnp.sum(x.astype(jnp.float64)) for x in parts), jnp.zeros(()))

    def derivatives(values, directions, shares):
        flat, structure = jax.tree.flatten(values)

        def move(row):
            moved = [x + t * d for x, d, t in zip(flat, directions, row)]
            return scalar(jax.tree.unflatten(structure, moved))

        gradient = jax.tree.leaves(jax.grad(scalar)(values))
        return jnp.stack([jnp.sum(g * d) for g, d in zip(gradient, directions)]), jax.lax.map(
            move, shares
        )

    # Drawn apart from the projection: along the same numbers a transposed Jacobian is no mistake.
    flat, rng = jax.tree.leaves(values), np.random.default_rng((seed, 2))
    directions = [_direction(rng, x) for x in flat]
    which = np.array([np.isin(np.arange(len(flat)), group) for group in groups], np.float64)
    sides = np.array([0.0, *STEPS, *(-step for step in STEPS)])
    shares = (which[:, None, :] * sides[None, :, None]).reshape(-1, len(flat))
    run = jax.jit(derivatives, compiler_options=QUICK)
    slopes, found = jax.device_get(run(values, directions, jnp.asarray(shares)))
    path = "/".join(call.path) or "the network itself"
    rows = zip(names, which @ slopes, found.reshape(len(names), len(sides)))
    return [mistake for row in rows if (mistake := _judge(path, *row)) is not None]


def _direction(rng, x):
    """At random, as long as the values themselves, or of length 1 where they are zeros."""
    direction = rng.standard_normal(x.shape)
    return direction * (np.linalg.norm(x) or 1.0) / np.linalg.norm(direction)


def _judge(path, name, gradient, values) -> Mistake | None:
    """The error against the differences of the two steps that agree best; None where no two do, or
    where there is a kink: the difference to one side is another than that to the other."""
    here, right, left = values[0], values[1 : len(STEPS) + 1], values[len(STEPS) + 1 :]
    slopes = (right - left) / (2 * np.array(STEPS))
    bends = np.abs(right + left - 2 * here) / np.array(STEPS)
    apart = np.abs(np.diff(slopes))
    best = int(np.argmin(apart))
    difference = slopes[best + 1]
    scale = max(abs(gradient), abs(difference))
    noise = 1e-8 * max(np.abs(values).max(), 1e-300)
    if not np.isfinite(scale):
        return None
    if scale < noise:
        return Mistake(path, name, gradient, difference, 0.0)
    if apart[best] > ALIKE * max(abs(difference), noise) or bends.min() > 10 * TOLERANCE * scale:
        return None
    return Mistake(path, name, gradient, difference, abs(gradient - difference) / scale)


def _jitter(values, seed):
    """Values with some noise: zeros alike would lie on the kinks of ReLU and max pooling."""
    leaves, structure = jax.tree.flatten(values)
    rng = np.random.default_rng((seed, 3))
    noise = [rng.standard_normal(x.shape) * (0.1 * np.std(x) + 0.01) for x in leaves]
    return jax.tree.unflatten(structure, [x + n for x, n in zip(leaves, noise)])
