"""Losses: one value for each example. Nobody averages here but `weighted_mean`."""

import jax
import jax.numpy as jnp
from jax import lax

from .ops import collective


def softmax_cross_entropy(logits, labels, *, label_smoothing=0.0):
    """`-sum_k target_k log softmax(logits)_k` for each example, in nats.

    Args:
      logits: `[…, K]`, floats, of any size; half precision is computed with in float32.
      labels: integers `[…]` from 0 to K - 1 (any other gives NaN), or distributions `[…, K]`.
      label_smoothing: the share e of the target that is spread evenly over all K classes:
        `(1 - e) target + e / K`.

    Returns: `[…]`, float32 (float64 for float64 logits).

    Raises: TypeError for integer logits, ValueError for shapes that do not fit or a share outside
      of 0 to 1.

    Reference: Szegedy et al. 2016, "Rethinking the Inception architecture", section 7.

    >>> softmax_cross_entropy(jnp.array([[0.0, 1e4]]), jnp.array([0])).tolist()
    [10000.0]
    """
    logits = _as_floats(logits, "logits")
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label smoothing is a share from 0 to 1, came {label_smoothing}")
    labels = jnp.asarray(labels)
    log_probabilities = jax.nn.log_softmax(logits)
    if jnp.issubdtype(labels.dtype, jnp.integer):
        _require_same_shape(logits[..., 0], labels, "logits without their last axis and labels")
        losses = -_pick(log_probabilities, labels)
    else:
        _require_same_shape(logits, labels, "logits and target distributions")
        losses = -jnp.sum(labels.astype(logits.dtype) * log_probabilities, -1)
    if label_smoothing:
        uniform = -jnp.mean(log_probabilities, -1)
        losses = (1 - label_smoothing) * losses + label_smoothing * uniform
    return losses


def squared_error(prediction, target):
    """`1/2 sum (prediction - target)^2` over everything but the first axis: `[B, …] -> [B]`.

    For class labels as targets see `one_hot`.

    Raises: TypeError for integers, ValueError for shapes that differ.

    >>> squared_error(jnp.array([[1.0, 2.0]]), jnp.array([[0.0, 0.0]])).tolist()
    [2.5]
    """
    prediction, target = _as_floats(prediction, "prediction"), _as_floats(target, "target")
    _require_same_shape(prediction, target, "prediction and target")
    return 0.5 * jnp.sum(jnp.square(prediction - target), range(1, prediction.ndim))


def perceptron_loss(prediction, label):
    """`max(0, -label prediction)` for labels -1 or 1: `[B] -> [B]`.

    Differs: at a prediction of 0 the derivative is `-label`, not half of it as `jax.grad` of
    `max` has it (`optax.losses.perceptron_loss`); a perceptron that begins with zeros would else
    learn half of its first example.

    Raises: TypeError for integer predictions, ValueError for shapes that differ.

    Reference: Rosenblatt 1962; as a loss Collobert 2015, "Perceptron: Rosenblatt (1957)".

    >>> perceptron_loss(jnp.array([3.0, -3.0]), jnp.array([-1, -1])).tolist()
    [3.0, 0.0]
    """
    margin = _margin(prediction, label)
    return jnp.where(margin <= 0, -margin, 0)


def logistic_loss(prediction, label):
    """`log(1 + exp(-label prediction))` for labels -1 or 1, in nats: `[B] -> [B]`.

    The derivative by the prediction is `p - 1` at the label 1, and `p` at -1, with
    `p = 1 / (1 + exp(-prediction))`, the probability of the label 1.

    Raises: TypeError for integer predictions, ValueError for shapes that differ.

    Reference: Ranzato 2012, "Linear classifier: logistic regression".

    >>> logistic_loss(jnp.array([1e4, -1e4]), jnp.array([-1, -1])).tolist()
    [10000.0, 0.0]
    """
    return jax.nn.softplus(-_margin(prediction, label))


def one_hot(labels, classes, *, on=1.0, off=0.0):
    """Labels `[…]` as targets `[…, classes]`, float32: `on` at the label, `off` elsewhere. The
    targets of a label outside 0 to classes - 1 are NaN.

    >>> one_hot(jnp.array([1]), 3, off=-1.0).tolist()
    [[-1.0, 1.0, -1.0]]
    """
    chosen = _chosen(labels, classes)
    targets = jnp.where(chosen, jnp.float32(on), jnp.float32(off))
    return jnp.where(chosen.any(-1, keepdims=True), targets, jnp.nan)


def weighted_mean(values, weights=None):
    """`sum(weights * values) / sum(weights)` over the whole batch, on however many devices.

    Where the data axis is bound, both sums go over all devices, and the value is the same on each.
    The *mean* over the devices of the gradients is then the gradient of that value, as if one
    device held the whole batch: each device differentiates its own term of the numerator, times
    the number of devices. (A mean of the devices' means would weigh their examples unequally.)

    Args:
      values: `[B, …]`, floats.
      weights: the same shape, at least 0, floats or booleans; None for ones. They count as
        constants. A value of weight 0 does not enter the result, not even if it is NaN (its
        gradient would: guard what makes it).

    Returns: a scalar, float32 (float64 for float64 values); 0 if all weights are 0.

    Raises: ValueError for shapes that differ.

    >>> weighted_mean(jnp.array([1.0, 2.0, 6.0]), jnp.array([1.0, 1.0, 0.0])).item()
    1.5
    """
    values = _as_floats(values, "values")
    weights = jnp.ones_like(values) if weights is None else jnp.asarray(weights, values.dtype)
    _require_same_shape(values, weights, "values and weights")
    weights = lax.stop_gradient(weights)
    total = collective.sum_over_data(weights.sum())
    numerator = jnp.where(weights == 0, 0, weights * values).sum()
    devices = collective.axis_size() or 1
    local = devices * numerator / jnp.where(total == 0, 1, total)
    # The value is reduced outside of the differentiated path: a collective on it is transposed in
    # one way under `check_vma` and in another without. `local - local` is 0 but has a gradient.
    value = collective.mean_over_data(lax.stop_gradient(local))
    return value + (local - lax.stop_gradient(local))


def _chosen(labels, classes):
    """True at the label: `[…] -> […, classes]`. A label that is no class has no true at all."""
    labels = jnp.asarray(labels)[..., None]
    return labels == lax.broadcasted_iota(jnp.int32, (*labels.shape[:-1], classes), labels.ndim - 1)


def _pick(values, labels):
    """`values[…, label]`, NaN for labels that are no class. By comparison, not by index: the
    gradient is then no scatter."""
    chosen = _chosen(labels, values.shape[-1])
    return jnp.where(chosen.any(-1), jnp.where(chosen, values, 0).sum(-1), jnp.nan)


def _margin(prediction, label):
    prediction = _as_floats(prediction, "prediction")
    label = jnp.asarray(label, prediction.dtype)
    _require_same_shape(prediction, label, "prediction and label")
    return label * prediction


def _as_floats(x, name):
    x = jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"{name}: expected floats, came {x.dtype} {x.shape}")
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _require_same_shape(a, b, names):
    if a.shape != b.shape:
        raise ValueError(f"{names} differ in shape: {a.shape} and {b.shape}")
