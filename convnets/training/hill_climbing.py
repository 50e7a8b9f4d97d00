"""Hill climbing: change the parameters at random, keep what is better."""

import jax
import jax.numpy as jnp
import optax

from ..errors import UserError
from ..ops import collective
from .state import TrainState
from .step import update


def make_hill_climbing_step(loss_fn, scale: float, *, ema: float | None = None):
    """`step(state, batch) -> (state, metrics)`: a random change, kept where it lowers the loss.

    Every parameter gets Gaussian noise of standard deviation `scale`. Both losses are of the same
    batch, with the same key for dropout and augmentation; batch statistics and metrics are those of
    the parameters that are kept. There is no optimizer: make the state with `optax.identity()`.
    `ema` as in `make_step`.

    Raises: UserError for a scale that is not positive.

    Reference: the lectures' baseline for gradient descent; Rastrigin 1963 (random search).

    >>> def loss_fn(params, batch_stats, batch, key):
    ...     loss = jnp.sum(jnp.square(params["w"] - batch["x"]))
    ...     return loss, (batch_stats, {"loss": (loss, 1)})
    >>> state = TrainState.create({"params": {"w": jnp.ones(1)}}, optax.identity(),
    ...                           jax.random.key(0))
    >>> step, losses = jax.jit(make_hill_climbing_step(loss_fn, 0.1)), []
    >>> for _ in range(50):
    ...     state, metrics = step(state, {"x": jnp.zeros(1)})
    ...     losses.append(float(metrics["loss"][0]))
    >>> losses == sorted(losses, reverse=True), losses[-1] < 0.01
    (True, True)
    """
    if not scale > 0:
        raise UserError(f"the scale of the noise must be positive, not {scale}")

    def step(state: TrainState, batch):
        noise_key, key = jax.random.split(jax.random.fold_in(state.key, state.step))
        noise = optax.tree.random_like(noise_key, state.params, sampler=jax.random.normal)
        noise = jax.tree.map(lambda x: scale * x, noise)

        def look(params):
            value, (batch_stats, metrics) = loss_fn(params, state.batch_stats, batch, key)
            value, metrics = collective.mean_over_data(value), collective.sum_over_data(metrics)
            return value, batch_stats, metrics

        old, *of_old = look(state.params)
        new, *of_new = look(optax.apply_updates(state.params, noise))
        better = new < old  # a loss that is not a number is not

        def choose(new, old):
            return jax.tree.map(lambda x, y: jnp.where(better, x, y), new, old)

        batch_stats, metrics = choose(of_new, of_old)
        change = choose(noise, jax.tree.map(jnp.zeros_like, noise))
        return update(state, change, batch_stats, optax.identity(), ema=ema), metrics

    return step
