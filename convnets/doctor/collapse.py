"""Does every image make a difference, and does every unit of the network?"""

import numpy as np
from flax.traverse_util import flatten_dict

from ..ops.image import prepare
from ..summary import summarize
from .finding import NOT_CHECKED, OK, WRONG, Finding, judge
from .sampling import spread
from .signals import find_saturated, measure_signals

IMAGES, FEWEST, BYTES = 512, 16, 2**29
CONSTANT = 1e-4  # deviation of a logit over the images, as a share of the logits' size
DEAD, MANY_DEAD = 70.0, 95.0  # percent of a layer's units
VANISHED, FAINT = 1e-9, 1e-6  # of a layer's signal over that of the strongest
HUGE = 1e6


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

    Returns: findings on `weights`, `units`, `saturation` (where there are sigmoids or tanhs),
    `signal` and `outputs`. `measure_signals` and `find_saturated` tell of every layer.

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
    logits, signals = measure_signals(model, variables, images, seed=seed)
    return [
        _check_weights(variables["params"]),
        _check_units(signals),
        *_check_saturation(find_saturated(model, variables, images)),
        _check_signal(signals),
        _check_outputs(np.asarray(logits), batch["label"]),
    ]


def _check_outputs(logits, labels):
    if not np.isfinite(logits).all():
        found, advice = "logits that are not finite", "Take a smaller learning rate; clip."
        return Finding("collapse", "outputs", WRONG, None, "", found, advice)
    if len(logits) < 2:
        text = "one image tells nothing of the others"
        return Finding("collapse", "outputs", NOT_CHECKED, None, "", text)
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


def _check_saturation(layers):
    """The layer with the most units that are saturated for every image; none without any."""
    if not layers:
        return []
    path, share = max(layers, key=lambda pair: pair[1])
    return [
        Finding(
            "collapse",
            "saturation",
            judge(100 * share > MANY_DEAD, 100 * share > DEAD),
            100 * share,
            "% saturated",
            f"of the units of {path}, the most of any layer",
            "Start that layer's weights smaller (glorot), its biases at 0, and normalize inputs.",
        )
    ]


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
