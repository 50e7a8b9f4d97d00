"""Quasi-Newton methods, for small problems whose whole data fit in one gradient."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ..errors import UserError


class Minimum(NamedTuple):
    """What `minimize_lbfgs` returns.

    Attributes:
      params: a tree like those given, of the lowest loss that was met.
      losses: `[steps + 1]`, in NumPy: before the first step, and after each. They never rise, and
        the last is that of `params`: a step that raised the loss was not taken.
      converged: whether the gradient came below the tolerance.
    """

    params: Any
    losses: np.ndarray
    converged: bool


def minimize_lbfgs(
    loss: Callable,
    params,
    *,
    steps: int = 100,
    tolerance: float = 1e-5,
    memory: int = 10,
) -> Minimum:
    """Minimizes a smooth function of a tree of parameters by L-BFGS with a line search.

    Args:
      loss: `params -> scalar`, the same every time: the whole data, nothing random.
      params: where to start.
      steps: how many at most.
      tolerance: ends where no element of the gradient is larger.
      memory: how many past steps shape the next.

    It ends too where a step no longer lowers the loss, which is as far as the floating point goes;
    one that raises it is taken back.

    Raises: UserError for a loss that is no finite scalar at the start, and for numbers below 1.

    Reference: Liu and Nocedal 1989; Nocedal and Wright 2006, algorithms 7.5, and 3.5 and 3.6 for
    the line search (strong Wolfe conditions). Both are Optax's.

    >>> found = minimize_lbfgs(lambda x: jnp.sum((x - 2.0) ** 2), jnp.zeros(3))
    >>> found.params.tolist(), found.converged
    ([2.0, 2.0, 2.0], True)
    """
    if steps < 1 or memory < 1 or not tolerance >= 0:
        raise UserError(
            f"steps and memory are at least 1 and the tolerance not negative, not {steps}, "
            f"{memory} and {tolerance}"
        )
    leaves = jax.tree.leaves(params)
    if not leaves or not all(jnp.issubdtype(jnp.result_type(x), jnp.floating) for x in leaves):
        kinds = ", ".join(str(jnp.result_type(x)) for x in leaves) or "none"
        raise UserError(f"what is moved are arrays of floats; came {kinds}")
    start = jax.eval_shape(loss, params)
    if getattr(start, "shape", None) != ():
        raise UserError(f"the loss must be a scalar, it is {start}")
    params, losses, count, slope = jax.jit(_make_descent(loss, steps, tolerance, memory))(params)
    losses = np.asarray(losses)[: int(count) + 1]
    if not np.isfinite(losses[0]):
        raise UserError(f"the loss must be finite at the start, it is {losses[0]}")
    return Minimum(params, losses, bool(slope <= tolerance))


def _make_descent(loss, steps, tolerance, memory):
    """`params -> params, losses [steps + 1], number of steps, largest slope`."""
    optimizer = optax.lbfgs(memory_size=memory)
    value_and_gradient = optax.value_and_grad_from_state(loss)

    def look(params, opt_state):
        value, grads = value_and_gradient(params, state=opt_state)
        return value, grads, optax.tree.norm(grads, ord=jnp.inf)

    def descend(carry):
        params, opt_state, found, losses, count, _ = carry
        value, grads, _ = found
        updates, opt_state = optimizer.update(
            grads, opt_state, params, value=value, grad=grads, value_fn=loss
        )
        moved = optax.apply_updates(params, updates)
        after = look(moved, opt_state)
        taken = after[0] <= value
        params, found = jax.tree.map(
            lambda new, old: jnp.where(taken, new, old), (moved, after), (params, found)
        )
        losses = losses.at[count + 1].set(after[0])  # which, not taken, does not count
        return params, opt_state, found, losses, count + taken, after[0] < value

    def goes_on(carry):
        _, _, (_, _, slope), _, count, falls = carry
        return (count < steps) & (slope > tolerance) & falls

    def run(params):
        opt_state = optimizer.init(params)
        found = look(params, opt_state)
        losses = jnp.zeros(steps + 1, found[0].dtype).at[0].set(found[0])
        carry = params, opt_state, found, losses, 0, True
        params, _, (_, _, slope), losses, count, _ = jax.lax.while_loop(goes_on, descend, carry)
        return params, losses, count, slope

    return run
