"""Metrics as `(sum, count)` pairs, added over batches and devices and divided once at the end.

A pair covers the examples that it was given, no collectives inside. Counts, and sums of counts,
are int32 on the device; `to_host` widens them before many batches are added up.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


def top_k_correct(logits, labels, k=1, mask=None):
    """How many examples have their label among the k largest logits.

    Of equal logits the class of the lower index comes first, so that no ties are won by chance.
    An example with a NaN among its logits, or with a label that is no class, is wrong.

    Args:
      logits: `[B, …, K]`.
      labels: integers `[B, …]`.
      mask: booleans `[B, …]`, false for examples that do not count; None for all.

    Returns: `(sum, count)`, int32.

    >>> pair = top_k_correct(jnp.array([[3.0, 2.0, 1.0]]), jnp.array([1]), 2)
    >>> [int(number) for number in pair]
    [1, 1]
    """
    return _count(_is_in_top(logits, labels, k), mask)


def top_k_error(logits, labels, k=1, mask=None):
    """How many examples do not have their label among the k largest logits; see `top_k_correct`.

    >>> [int(number) for number in top_k_error(jnp.array([[3.0, 2.0]]), jnp.array([1]))]
    [1, 1]
    """
    return _count(~_is_in_top(logits, labels, k), mask)


def mean_metric(values, mask=None):
    """The sum of values `[B, …]` in float32, and how many there are, where the mask is true.

    >>> total, count = mean_metric(jnp.array([1.0, 2.0, 4.0]), jnp.array([True, True, False]))
    >>> float(total), int(count)
    (3.0, 2)
    """
    values = values.astype(jnp.promote_types(values.dtype, jnp.float32))
    mask = _full_mask(mask, values.shape)
    return jnp.where(mask, values, 0).sum(), mask.sum(dtype=jnp.int32)


def confusion_matrix(logits, labels, mask=None):
    """How often an example of one class (row) was taken for another (column).

    Arguments and conventions as in `top_k_correct`: an example without a prediction (a NaN among
    its logits) or without a class is in the count but in no cell, so that the trace is the sum of
    `top_k_correct`.

    Returns: `([K, K], count)`, int32.

    >>> confusion_matrix(jnp.array([[3.0, 2.0], [1.0, 0.0]]), jnp.array([0, 1]))[0].tolist()
    [[1, 0], [1, 0]]
    """
    classes = logits.shape[-1]
    labels = _class_numbers(labels)
    mask = _full_mask(mask, labels.shape)
    known = mask & ~jnp.isnan(logits).any(-1) & (labels >= 0) & (labels < classes)
    cells = jnp.where(known, labels * classes + jnp.argmax(logits, -1), classes**2)
    matrix = jnp.bincount(cells.ravel(), length=classes**2 + 1)[:-1].reshape(classes, classes)
    return matrix.astype(jnp.int32), mask.sum(dtype=jnp.int32)


def add(a, b):
    """The metrics of two batches together: every sum and every count added.

    >>> add({"loss": (1.0, 2)}, {"loss": (3.0, 4)})
    {'loss': (4.0, 6)}
    """
    return jax.tree.map(lambda x, y: x + y, a, b)


def to_host(metrics):
    """The same metrics as NumPy float64 and int64, so that millions of examples add up exactly.

    >>> to_host({"loss": (jnp.float32(1.5), jnp.int32(2))})["loss"][0].dtype
    dtype('float64')
    """

    def widen(x):
        x = np.asarray(x)
        return x.astype(np.int64 if np.issubdtype(x.dtype, np.integer) else np.float64)

    return jax.tree.map(widen, jax.device_get(metrics))


def finish(metrics):
    """Every sum divided by its count: floats, or float64 arrays where the sum is an array. NaN
    where nothing was counted.

    >>> finish({"accuracy": (jnp.int32(3), jnp.int32(4))})
    {'accuracy': 0.75}
    """
    return {name: _divide(*pair) for name, pair in to_host(metrics).items()}


def _divide(total, count):
    if count == 0:
        total, count = np.full_like(total, np.nan, np.float64), 1
    mean = total / count
    return float(mean) if np.ndim(mean) == 0 else mean


def _class_numbers(labels):
    labels = jnp.asarray(labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"labels are integers, not {labels.dtype}")
    return labels.astype(jnp.int32)


def _is_in_top(logits, labels, k):
    labels = _class_numbers(labels)
    if k < 1:
        raise ValueError(f"k is at least 1, came {k}")
    if logits.shape[:-1] != labels.shape:
        raise ValueError(f"logits {logits.shape} and labels {labels.shape} do not fit")
    classes = lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1)
    label = labels[..., None]
    score = jnp.where(classes == label, logits, 0).sum(-1, keepdims=True)
    before = (logits > score) | ((logits == score) & (classes < label))
    is_class = (labels >= 0) & (labels < logits.shape[-1])
    return (before.sum(-1) < k) & is_class & ~jnp.isnan(logits).any(-1)


def _count(true, mask):
    mask = _full_mask(mask, true.shape)
    return (true & mask).sum(dtype=jnp.int32), mask.sum(dtype=jnp.int32)


def _full_mask(mask, shape):
    if mask is None:
        return jnp.ones(shape, bool)
    mask = jnp.asarray(mask, bool)
    if mask.shape != shape:
        raise ValueError(f"expected a mask of shape {shape}, came {mask.shape}")
    return mask
