"""Does every image make a difference, and does every unit of the network?"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from ..ops.image import prepare
from ..summary import summarize
from .finding import NOT_CHECKED, OK, WRONG, Finding, judge
from .overfit import spread

IMAGES, FEWEST, BYTES = 512, 16, 2**29
CONSTANT = 1e-4  # deviation of a logit over the images, as a share of the logits' size
DEAD, MANY_DEAD = 70.0, 95.0  # percent of a layer's units
VANISHED, FAINT = 1e-9, 1e-6  # of a layer's signal over that of the strongest
HUGE = 1e6


class Signal(NamedTuple):
    """What reaches a layer back from the logits.

    Attributes:
      path: of the layer, and `/` which of its calls, where there are several.
      dead: share of its units to which nothing comes back from any image.
      strength: root mean square of what comes back to an image's units.
    """

    path: str
    dead: float
    strength: float


def check_collapse(model, dataset, state, *, normalization=None, seed: int = 0) -> list[Finding]:
    """Looks for outputs that are the same for all images, dead units, and faded gradients.

    The gradient of a random mixture of the logits is taken with respect to what every layer
    returns. A unit to which nothing comes back, whatever the image, is dead: a ReLU that is never
    above 0, or one whose followers do not listen.

    Args:
      model, dataset: as in `fit`.
      state: after some training.
      normalization: of the images; None for the state's, else the data set's own.
      seed: of the mixture.

    Returns: findings on `weights`, `units`, `signal` and `outputs`.

    Reference: Glorot, Bengio 2010, "Understanding the difficulty of training deep feedforward
    neural networks", sections 3 and 4 (saturation; back-propagated gradients by layer).
    """
    if normalization is None:
        normalization = state.normalization or dataset.normalization
    count = BYTES // max(summarize(model, dataset.image_shape).activation_bytes, 1)
    count = min(max(count, FEWEST), IMAGES, len(dataset.train))
    batch = dataset.train.batch(spread(len(dataset.train), count))
    images = prepare(batch["image"], normalization)
    variables = {name: tree for name, tree in state.variables().items() if tree}
    logits, signals = _signals(model, variables, images, seed)
    return [
        _check_weights(variables["params"]),
        _check_units(signals),
        _check_signal(signals),
        _check_outputs(np.asarray(logits), batch["label"]),
    ]


def _signals(model, variables, images, seed):
    """The logits, and the signal of every layer that calls no other, in the order of calls."""
    names = []

    def run(probes, images):
        names.clear()
        shapes, inner = {}, [False]

        def note(call, args, kwargs, context):
            if context.method_name != "__call__":
                return call(*args, **kwargs)
            inner[-1] = True
            inner.append(False)
            output = call(*args, **kwargs)
            if inner.pop() or not hasattr(output, "dtype") or output.ndim < 2:
                return output
            path = "/".join(context.module.path)
            name = path if path not in names else f"{path}/{names.count(path) + 1}"
            names.append(name)
            shapes[name] = jax.ShapeDtypeStruct(output.shape, output.dtype)
            return output if probes is None else output + probes[name]

        with nn.intercept_methods(note):
            logits = model.apply(variables, images, train=False)
        return (logits, shapes) if probes is None else logits

    _, shapes = jax.eval_shape(lambda x: _only_shapes(run(None, x)), images)

    @jax.jit
    def backward(images):
        def mixed(probes):
            logits = run(probes, images)
            weights = np.random.default_rng(seed).standard_normal(logits.shape)
            return jnp.sum(logits * weights), logits

        probes = {name: jnp.zeros(x.shape, x.dtype) for name, x in shapes.items()}
        gradients, logits = jax.grad(mixed, has_aux=True)(probes)
        found = {}
        for name, x in gradients.items():
            axes = tuple(range(x.ndim - 1))
            found[name] = (jnp.abs(x).max(axes) == 0).mean(), _root_mean_square(x)
        return logits, found

    logits, found = jax.device_get(backward(images))
    return logits, [Signal(name, *map(float, found[name])) for name in dict.fromkeys(names)]


def _only_shapes(pair):
    logits, shapes = pair
    return logits, {name: jnp.zeros(x.shape, x.dtype) for name, x in shapes.items()}


def _root_mean_square(x):
    largest = jnp.abs(x).max()  # apart, for the squares of what has faded are 0 in float32
    scale = jnp.where(largest > 0, largest, 1)
    return largest * jnp.sqrt(jnp.mean(jnp.square(x / scale)))


def _check_outputs(logits, labels):
    if not np.isfinite(logits).all():
        found, advice = "logits that are not finite", "Take a smaller learning rate; clip."
        return Finding("collapse", "outputs", WRONG, None, "", found, advice)
    size = max(float(np.abs(logits).max()), 1e-30)
    spread_ = float(logits.std(0).max()) / size
    classes = len(np.unique(logits.argmax(1)))
    one = classes == 1 and len(np.unique(labels)) > 1
    found = f"deviation of a logit over {len(logits)} images; {classes} classes are predicted"
    return Finding(
        "collapse",
        "outputs",
        judge(spread_ < CONSTANT, one),
        spread_,
        "of the logits' size",
        found,
        "All images are answered alike: look at first weights, dead units, the rate, and whether "
        "the loss wants answers to differ.",
    )


def _check_units(signals):
    """The layer with the most dead units; of several, the last, for no signal passes it."""
    if not signals:
        return Finding("collapse", "units", NOT_CHECKED, None, "", "no layer returns one array")
    worst = max(enumerate(signals), key=lambda pair: (round(pair[1].dead, 2), pair[0]))[1]
    share = 100 * worst.dead
    return Finding(
        "collapse",
        "units",
        judge(share > MANY_DEAD, share > DEAD),
        share,
        "% dead",
        f"of the units of {worst.path}, the most of any layer",
        "Look at that layer's first weights and biases, and take a smaller rate, or an activation "
        "with a slope below 0.",
    )


def _check_signal(signals):
    """The faintest layer over the strongest, as the gradient comes back."""
    alive = [signal for signal in signals if signal.strength > 0]
    if not alive:
        text = "nothing comes back to any layer"
        return Finding("collapse", "signal", WRONG, 0.0, "", text, "Look at the first weights.")
    strongest = max(alive, key=lambda signal: signal.strength)
    faintest = min(signals, key=lambda signal: signal.strength)
    ratio = faintest.strength / strongest.strength
    huge = strongest.strength > HUGE or not np.isfinite(strongest.strength)
    found = f"gradient at {faintest.path} over that at {strongest.path}"
    if faintest.strength == 0:
        last = [signal.path for signal in signals if signal.strength == 0][-1]
        found = f"nothing comes back to {last} and what is before it"
    return Finding(
        "collapse",
        "signal",
        judge(ratio < VANISHED or huge, ratio < FAINT),
        ratio,
        "of the largest",
        found,
        "Gradients fade or explode on the way: start weights as suits the activation (he_normal "
        "for ReLU), normalize, or add shortcuts.",
    )


def _check_weights(params):
    """Layers all of whose weights are equal, so that their units can never differ."""
    kernels = {
        "/".join(path): np.asarray(x)
        for path, x in flatten_dict(params).items()
        if np.ndim(x) >= 2 and np.size(x) > 1
    }
    equal = [path for path, x in kernels.items() if x.std() == 0]
    bad = [path for path, x in kernels.items() if not np.isfinite(x).all()]
    found = f"of {len(kernels)} layers have weights that are all equal"
    if equal:
        found += f": {', '.join(equal[:3])}{', …' if equal[3:] else ''}"
    if bad:
        found = f"weights that are not finite: {', '.join(bad[:3])}"
    verdict = WRONG if equal or bad else OK
    advice = "Start weights at random: units that begin equal stay equal."
    if bad:
        verdict, advice = WRONG, "Take a smaller learning rate; clip."
    return Finding("collapse", "weights", verdict, len(equal), "layers", found, advice)
