"""Batch statistics for evaluation, computed exactly in the place of running averages."""

from collections.abc import Iterable, Mapping

import flax.linen as nn
import jax
import numpy as np
from flax import traverse_util

from ..layers import switch_batch_norm
from ..ops.image import prepare
from .state import TrainState

COLLECTIONS = ["batch_stats", "batch_moments", "auxiliary"]  # auxiliary heads have statistics too


def recompute_statistics(
    model: nn.Module, state: TrainState, batches: Iterable[dict], *, step=None
) -> TrainState:
    """The state with the mean and variance that every batch norm meets over the given batches,
    the parameters held.

    Batch norm normalizes each batch by its own statistics meanwhile, over groups where its layers
    have them; all else computes as at test: no dropout, no augmentation. Of the statistics μ, σ² of
    batches of n values each, the mean is `Σnμ / Σn` and the variance `Σn(σ² + μ²) / Σn - mean²`,
    so that the variance of the batches' means is part of it. For the first batch norm, whose input
    no other one changes, they are exactly those of all the examples as one batch.

    Args:
      model: the model that was trained.
      state: with the parameters; where it keeps moving averages, the statistics that belong to
        those are recomputed, for they are what is evaluated.
      batches: of the training split, best as large as those of training, of any number; of each
        its `image` is read, `[B, H, W, C]`, and of `mask`, false for padding, which to leave out.
      step: for several devices, and to compile once for many calls, `parallel.compile(
        make_moments_step(model), donate=False)`; the devices, and groups, are then to divide what
        of every batch is no padding. None compiles it for this call.

    Returns: the state with new statistics, float32, whatever momentum the layers have. A layer that
    evaluation does not reach keeps its own.

    Raises: ValueError for a model without batch norm, or with another than `layers.BatchNorm`, for
    what is no batch, and when there is no example at all.

    Reference: Wu and Johnson 2021, "Rethinking 'Batch' in BatchNorm", section 3 (PreciseBN); so
    the networks of He et al. 2015 were tested (the notes to their release: "average, not moving
    average"). Differs: dropout and augmentation are off, for the test has none of their noise.
    Ioffe and Szegedy 2015, algorithm 2, takes the mean of unbiased variances of batches, which lack
    the part between batches only on average; here variances are biased, as everywhere.

    >>> import jax.numpy as jnp, optax
    >>> from convnets.layers import BatchNorm
    >>> images = jnp.array([0.0, 0.1, 0.2, 0.9]).reshape(4, 1, 1, 1)
    >>> model, key = BatchNorm(), jax.random.key(0)
    >>> variables = model.init(key, images, train=False)
    >>> state = TrainState.create(variables, optax.identity(), key)
    >>> state = recompute_statistics(model, state, [{"image": images[:3]}, {"image": images[3:]}])
    >>> state.batch_stats["mean"].round(4).tolist(), state.batch_stats["var"].round(4).tolist()
    ([0.30000001192092896], [0.125])
    """
    step = jax.jit(make_moments_step(model)) if step is None else step
    if not state.variables()["batch_stats"]:
        raise ValueError("the model has no batch norm, so there are no statistics to recompute")
    if hasattr(step, "place_state"):
        state = step.place_state(state)
    totals, pending = {}, None
    for batch in batches:
        batch = _unpadded(batch)
        if len(batch["image"]):
            last, pending = pending, step(state, batch)  # read a batch late: nothing waits for it
            _add(totals, last)
    _add(totals, pending)
    if not totals:
        raise ValueError("there is nothing to recompute from: the batches hold no example")
    old = traverse_util.flatten_dict(jax.device_get(state.variables()["batch_stats"]))
    new = traverse_util.unflatten_dict(old | _finish(totals))
    if state.ema is None:
        return state.replace(batch_stats=new)
    return state.replace(ema={**state.ema, "batch_stats": new})


def make_moments_step(model: nn.Module):
    """`moments_step(state, batch) -> moments` of every batch norm, over the whole batch.

    Returns: mean and variance `[C]` and the count of values for each call of each layer, as its
    `batch_moments`; the same on every device, so that it compiles as an evaluation step does.
    """

    def moments_step(state: TrainState, batch):
        images = prepare(batch["image"], state.normalization)
        with switch_batch_norm(train=True):
            _, updates = model.apply(state.variables(), images, train=False, mutable=COLLECTIONS)
        if "batch_moments" not in updates:
            raise ValueError("evaluation reaches no convnets.layers.BatchNorm of the model")
        return updates["batch_moments"]

    return moments_step


def _unpadded(batch):
    """The images of the batch that are no padding, alone."""
    if not isinstance(batch, Mapping) or np.ndim(batch.get("image")) != 4:
        raise ValueError('a batch is a dict with the images [B, H, W, C] as its "image"')
    images, mask = batch["image"], batch.get("mask")
    return {"image": images if mask is None or np.all(mask) else images[np.asarray(mask)]}


def _add(totals, moments):
    """Adds a batch's `n, nμ, n(σ² + μ²)` to the sums of every layer, in float64."""
    for (*path, _), calls in traverse_util.flatten_dict(jax.device_get(moments or {})).items():
        for mean, variance, count in calls:
            mean, variance, count = (np.float64(x) for x in (mean, variance, count))
            new = count, count * mean, count * (variance + mean**2)
            old = totals.get(tuple(path), (0.0, 0.0, 0.0))
            totals[tuple(path)] = tuple(a + b for a, b in zip(old, new))


def _finish(totals):
    """Mean and variance of each layer by their paths in `batch_stats`."""
    statistics = {}
    for path, (count, first, second) in totals.items():
        mean = first / count
        statistics[(*path, "mean")] = np.float32(mean)
        statistics[(*path, "var")] = np.float32(np.maximum(second / count - mean**2, 0))
    return statistics
