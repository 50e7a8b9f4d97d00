"""Units that fire or do not: McCulloch and Pitts' neurons, and networks of them."""

import jax
import jax.numpy as jnp

from ..ops.convolution import require_floats


def threshold_units(x, weights, thresholds):
    """1 where `x @ weights > thresholds`, else 0.

    Args:
      x: floats `[…, N]`, 0 or 1 in the paper.
      weights: `[N, units]`.
      thresholds: `[units]`.

    Returns: `[…, units]`, of the dtype of `x`.

    Raises: TypeError for integers, ValueError for shapes that do not fit.

    Reference: McCulloch, Pitts 1943, "A logical calculus of the ideas immanent in nervous
    activity", section 2. Differs: a negative weight inhibits by its size; in the paper any
    inhibitory input was a veto.

    NOT is a unit of weight -1 and threshold -1/2; `all_of` and `any_of` make AND and OR. Exclusive
    or is no single unit, but a layer of two and one more: either, and not both.

    >>> from convnets.units import all_of, any_of, threshold_units
    >>> x = jnp.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    >>> either, both = threshold_units(x, *any_of(2)), threshold_units(x, *all_of(2))
    >>> h = jnp.concatenate([either, both], axis=1)
    >>> threshold_units(h, jnp.array([[1.0], [-1.0]]), jnp.array([0.5])).ravel().tolist()
    [0.0, 1.0, 1.0, 0.0]
    """
    require_floats(x, "threshold_units")
    if x.shape[-1:] != weights.shape[:1] or weights.shape[1:] != thresholds.shape:
        raise ValueError(
            "expected x [..., N], weights [N, units] and thresholds [units], came "
            f"{x.shape}, {weights.shape} and {thresholds.shape}"
        )
    return jnp.greater(x @ weights, jnp.expand_dims(thresholds, range(x.ndim - 1))).astype(x.dtype)


def all_of(inputs: int):
    """The unit AND of so many inputs: `(weights [inputs, 1], thresholds [1])`."""
    return jnp.ones((inputs, 1)), jnp.array([inputs - 0.5])


def any_of(inputs: int):
    """The unit OR of so many inputs: `(weights [inputs, 1], thresholds [1])`."""
    return jnp.ones((inputs, 1)), jnp.array([0.5])


def truth_rows(inputs: int):
    """All inputs of a Boolean function, counted upwards: `[2^inputs, inputs]`, the first bit first.

    >>> from convnets.units import truth_rows
    >>> truth_rows(2).astype(int).tolist()
    [[0, 0], [0, 1], [1, 0], [1, 1]]
    """
    numbers = jnp.arange(2**inputs)[:, None]
    return (numbers >> jnp.arange(inputs)[None, ::-1] & 1).astype(jnp.float32)


def disjunctive_layers(table):
    """Any Boolean function as two layers of threshold units: its disjunctive normal form.

    A unit of the first layer fires for one row of the truth table alone: +1 for each bit that is
    set there, -1 for each that is not, and a threshold half below what that row reaches. The
    second layer is the OR of the units whose row is true.

    Args:
      table: `[2^N]`, the values for the rows of `truth_rows(N)`.

    Returns: the `(weights, thresholds)` of `threshold_units` for both layers, of 2^N units and of
      one. Those of rows that are not true have the weight 0 behind them and could be left out;
      so all functions have one shape, and `jax.vmap` builds many at once.

    Raises: ValueError for a length that is no power of 2.

    Reference: McCulloch, Pitts 1943, theorem II; Minsky, Papert 1969, "Perceptrons", section 1.1.

    >>> from convnets.units import disjunctive_layers, run_threshold_layers, truth_rows
    >>> parity = disjunctive_layers(jnp.array([0, 1, 1, 0, 1, 0, 0, 1]))
    >>> run_threshold_layers(parity, truth_rows(3)).ravel().astype(int).tolist()
    [0, 1, 1, 0, 1, 0, 0, 1]
    """
    table = jnp.asarray(table)
    inputs = table.size.bit_length() - 1
    if table.shape != (2**inputs,):
        raise ValueError(f"a truth table has one value for each of 2^N rows, came {table.shape}")
    rows = truth_rows(inputs)
    first = (2 * rows - 1).T, rows.sum(1) - 0.5
    return first, ((table != 0).astype(rows.dtype)[:, None], jnp.array([0.5]))


def run_threshold_layers(layers, x):
    """What the last of several layers of threshold units makes of `x`: `[…, N] -> […, units]`."""
    for weights, thresholds in layers:
        x = threshold_units(x, weights, thresholds)
    return x


def association_units(key, inputs: int, units: int, *, excitatory: int, inhibitory: int):
    """Rosenblatt's associative area: units of random connections that are never learned.

    Each unit is excited by some points of the retina and inhibited by others, drawn without
    repetition, and fires where the first outweigh the second.

    Args:
      inputs: points of the retina, at least `excitatory + inhibitory`.
      units: how many.
      excitatory: connections of weight 1 a unit.
      inhibitory: connections of weight -1 a unit.

    Returns: `(weights [inputs, units], thresholds [units])`, for `threshold_units`.

    Raises: ValueError for more connections than inputs, or fewer than none.

    Reference: Rosenblatt 1958, "The perceptron: a probabilistic model for information storage and
    organization in the brain", the A-units of pages 389 to 393, threshold 0.

    >>> from convnets.units import association_units
    >>> weights, _ = association_units(jax.random.key(0), 9, 2, excitatory=3, inhibitory=1)
    >>> weights.sum(0).tolist(), jnp.abs(weights).sum(0).tolist()
    ([2.0, 2.0], [4.0, 4.0])
    """
    if min(excitatory, inhibitory) < 0 or excitatory + inhibitory > inputs:
        raise ValueError(f"{excitatory} + {inhibitory} connections to {inputs} inputs only")
    connections = jnp.zeros(inputs).at[:excitatory].set(1)
    connections = connections.at[excitatory : excitatory + inhibitory].set(-1)
    draw = jax.vmap(lambda key: jax.random.permutation(key, connections), out_axes=1)
    return draw(jax.random.split(key, units)), jnp.zeros(units)
