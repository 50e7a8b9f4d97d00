"""Is batch norm used rightly: in training by the batch, at test by what was learned?"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.errors import ModifyScopeVariableError

from ..layers import BatchNorm, switch_batch_norm
from ..ops.image import prepare
from .finding import NOT_CHECKED, OK, WARNING, WRONG, Finding, judge
from .sampling import spread

IMAGES = 32
APART = 1e-3  # of the logits' own size
KEPT = 0.01  # of what the statistics began with, at the end of the run
LOST = 20.0  # percent of the images that one mode has right and the other has not


def check_batch_norm(
    model, dataset, state, *, before=None, steps=None, batch_size=None, normalization=None
) -> list[Finding]:
    """Compares the network in evaluation with itself, beside other images and in training mode.

    Args:
      model, dataset: as in `fit`.
      state: after some training.
      before: the state before it, to see that the statistics have moved; or None.
      steps: of the whole run, to see that its statistics will have forgotten how they began.
      batch_size: of the run; batch norm of one image has no statistics.
      normalization: of the images; None for the state's, else the data set's own.

    Returns: findings on whether predictions are of each image alone (`test mode`), on `statistics`
    and on the two modes on one batch (`modes`); the last two for networks with batch norm.

    Reference: Ioffe and Szegedy 2015, algorithm 2.
    """
    if normalization is None:
        normalization = state.normalization or dataset.normalization
    source = dataset.train
    if len(source) < 2:
        text = "one image tells nothing of a batch"
        return [Finding("batch-norm", "test mode", NOT_CHECKED, None, "", text)]
    count = min(IMAGES, len(source) // 2)
    batch = source.batch(spread(len(source), 2 * count))
    images = prepare(batch["image"], normalization)
    variables = {name: tree for name, tree in state.variables().items() if tree}
    findings = [_check_test_mode(model, variables, images)]
    momenta = _momenta(model, images)
    if not variables.get("batch_stats"):
        return findings
    findings.append(_check_statistics(state, before, momenta, steps, batch_size))
    if findings[0].verdict == OK and momenta:
        settled = before is None or max(momenta) ** int(state.step) < KEPT
        findings.append(_check_modes(model, variables, images, batch["label"], settled))
    return findings


def _check_test_mode(model, variables, images):
    """Whether the logits of an image depend on its neighbors in the batch, or on chance."""
    advice = (
        "At test time call the model with train=False, and have its batch norm use the running "
        "statistics: a prediction must not depend on what else is in the batch."
    )
    apply = jax.jit(lambda images: model.apply(variables, images, train=False))
    half = len(images) // 2
    try:
        alone = apply(images)[:half]
        beside = apply(jnp.concatenate([images[:half], 1 - 2 * images[half:]]))[:half]
    except ModifyScopeVariableError:
        text = "with train=False the network still writes its batch statistics"
        return Finding("batch-norm", "test mode", WRONG, None, "", text, advice)
    size = float(jnp.abs(alone - alone.mean(0, keepdims=True)).max()) or 1.0
    apart = float(jnp.abs(alone - beside).max()) / size
    found = "change of an image's logits with the rest of its batch"
    return Finding(
        "batch-norm", "test mode", judge(apart > APART), apart, "relative", found, advice
    )


def _check_statistics(state, before, momenta, steps, batch_size):
    """Whether they move, fast enough, and are of more than one image."""
    kept = max(momenta) ** steps if momenta and steps else 0.0
    stand_still = before is not None and _same(before.batch_stats, state.batch_stats)
    found, advice = "of the statistics at the end of the run are what they began with", ""
    if stand_still:
        found = "training leaves the running statistics as they were"
        advice = "Return the new batch_stats from the loss (mutable=['batch_stats']) and keep them."
    elif kept > KEPT:
        advice = f"A momentum of {max(momenta)} is too slow for {steps} steps: take a smaller one."
    elif batch_size == 1:
        found = "the statistics of a batch are those of a single image"
        advice = "Take larger batches, or groups: one image has no deviation to normalize by."
    warning = kept > KEPT or batch_size == 1
    verdict = judge(stand_still or kept > 0.5, warning)
    return Finding("batch-norm", "statistics", verdict, 100 * kept, "%", found, advice)


def _check_modes(model, variables, images, labels, settled):
    """The accuracy on one batch by its own statistics and by the running ones."""

    @jax.jit
    def both(images):
        with switch_batch_norm(train=True):
            own, _ = model.apply(variables, images, train=False, mutable=["batch_stats"])
        return own.argmax(-1), model.apply(variables, images, train=False).argmax(-1)

    own, running = (100 * float((np.asarray(x) == labels).mean()) for x in both(images))
    found = f"right by the batch's own statistics {own:.3g} %, by the running ones {running:.3g} %"
    verdict = WARNING if settled and own - running > LOST else OK
    advice = "Recompute the statistics (recompute_statistics), or take a smaller momentum."
    return Finding("batch-norm", "modes", verdict, own - running, "% lost", found, advice)


def _momenta(model, images) -> list[float]:
    """The momentum of every batch norm of the network, ours or Flax's."""
    found = []

    def note(call, args, kwargs, context):
        if isinstance(context.module, BatchNorm | nn.BatchNorm):
            found.append(context.module.momentum)
        return call(*args, **kwargs)

    shape = jax.ShapeDtypeStruct(images.shape, images.dtype)
    with nn.intercept_methods(note):
        jax.eval_shape(lambda key, x: model.init(key, x, train=False), jax.random.key(0), shape)
    return found


def _same(one, other):
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)
