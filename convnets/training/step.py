"""One training step: the gradient of a loss function, and the update that follows it.

A loss function is `loss_fn(params, batch_stats, batch, key) -> (loss, (batch_stats, metrics))`;
`loss` is a `weighted_mean`, metrics are `(sum, count)` pairs of the local part of the batch. With
`key=None` it evaluates: nothing is random and batch norm uses its running statistics.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import optax

from ..ops import collective
from .state import TrainState


def gradient(loss_fn, *, compress=None):
    """`(state, batch) -> grads, batch_stats, metrics`, reduced over the data axis where bound.

    Every device differentiates with respect to its own copy of the parameters, and the mean over
    devices is the gradient of the loss over the whole batch; metrics are summed.

    Args:
      compress: a floating dtype narrower than the parameters', as `"bfloat16"`, that each device
        rounds its gradient to before it is sent (`ops.collective.compressed_mean_over_data`); for
        a step that is compiled by `shard_map` or `pmap`. None sends gradients as they are.
    """

    value_and_gradient_fn = _value_and_gradient(loss_fn, compress)
    return lambda state, batch: value_and_gradient_fn(state, batch)[1:]


def _value_and_gradient(loss_fn, compress=None):
    """As `gradient`, with the loss itself before."""

    mean_of_gradients = collective.mean_over_data
    if compress is not None:
        mean_of_gradients = partial(collective.compressed_mean_over_data, dtype=compress)

    def value_and_gradient_fn(state: TrainState, batch):
        key = jax.random.fold_in(state.key, state.step)
        params = collective.varying_over_data(state.params)
        (value, (batch_stats, metrics)), grads = jax.value_and_grad(loss_fn, has_aux=True)(
            params, state.batch_stats, batch, key
        )
        return (
            collective.mean_over_data(value),
            mean_of_gradients(grads),
            batch_stats,
            collective.sum_over_data(metrics),
        )

    return value_and_gradient_fn


def update(
    state: TrainState,
    grads,
    batch_stats,
    optimizer: optax.GradientTransformation,
    *,
    value=None,
    ema: float | None = None,
) -> TrainState:
    """The state after one step.

    Args:
      grads: the gradient of the loss, a tree like `state.params`.
      batch_stats: the new batch statistics.
      value: the loss, for optimizers that want it.
      ema: decay of the moving averages a step, where the state keeps them. Early on it is
        `(1 + step) / (10 + step)` if that is less, so that the start is soon forgotten.

    Raises: ValueError when the state keeps moving averages and no decay is given, or the reverse:
    averages that stand still would be evaluated all the same.
    """
    if (ema is None) != (state.ema is None):
        raise ValueError(
            f"the step's ema is {ema}, but the state keeps {'no' if state.ema is None else ''} "
            "moving averages; give both or none: make_step(ema=0.999), create(ema=True)"
        )
    optimizer = optax.with_extra_args_support(optimizer)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params, value=value)
    params = optax.apply_updates(state.params, updates)
    average = state.ema
    if ema is not None:
        decay = jnp.minimum(ema, (1.0 + state.step) / (10.0 + state.step))
        new = {"params": params, "batch_stats": batch_stats}
        average = jax.tree.map(lambda old, x: old + (1 - decay) * (x - old), state.ema, new)
    return state.replace(
        step=state.step + 1,
        params=params,
        batch_stats=batch_stats,
        opt_state=opt_state,
        ema=average,
    )


def make_step(
    loss_fn,
    optimizer: optax.GradientTransformation,
    *,
    ema: float | None = None,
    wrap_gradient: Callable | None = None,
    compress=None,
):
    """`step(state, batch) -> (state, metrics)`: gradient, optimizer, new statistics.

    Pure and not compiled: give it to `parallel.compile`, or to `jax.jit`. With `ema` the state
    must keep moving averages (`TrainState.create(..., ema=True)`). `wrap_gradient` makes another
    gradient function of the loss's, as `partial(sharpness_aware, radius=0.05)` does. `compress` as
    in `gradient`.

    >>> def loss_fn(params, batch_stats, batch, key):
    ...     loss = jnp.sum(jnp.square(params["w"] - batch["x"]))
    ...     return loss, (batch_stats, {"loss": (loss, 1)})
    >>> optimizer = optax.sgd(0.25)
    >>> state = TrainState.create({"params": {"w": jnp.ones(1)}}, optimizer, jax.random.key(0))
    >>> state, metrics = make_step(loss_fn, optimizer)(state, {"x": jnp.zeros(1)})
    >>> float(state.params["w"][0]), float(metrics["loss"][0])
    (0.5, 1.0)
    """
    value_and_gradient_fn = _value_and_gradient(loss_fn, compress)
    if wrap_gradient is not None:
        value_and_gradient_fn = wrap_gradient(value_and_gradient_fn)

    def step(state: TrainState, batch):
        value, grads, batch_stats, metrics = value_and_gradient_fn(state, batch)
        return update(state, grads, batch_stats, optimizer, value=value, ema=ema), metrics

    return step


def make_eval_step(loss_fn):
    """`eval_step(state, batch) -> metrics`, summed over the data axis where bound.

    Evaluates the moving averages where the state keeps them. A `mask` in the batch, `[B]`, is
    false for padding.
    """

    def eval_step(state: TrainState, batch):
        variables = state.variables()
        _, (_, metrics) = loss_fn(variables["params"], variables["batch_stats"], batch, None)
        return collective.sum_over_data(metrics)

    return eval_step
