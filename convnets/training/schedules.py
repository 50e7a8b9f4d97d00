"""Learning rates by step: pure functions, and a scale that falls when validation stalls."""

import math
from collections.abc import Callable

import jax
import numpy as np
import optax
from optax import contrib

from ..errors import UserError, unknown

SCHEDULES = ("constant", "cosine", "one_cycle", "step", "plateau")
RISING, FIRST, LAST = 0.3, 1 / 25, 1 / 250_000  # of one cycle: a share of its steps, of its peak
WARMUPS = ("gradual", "constant")


def linear_scaling(learning_rate: float, batch_size: int, base: int = 256) -> float:
    """The learning rate for a batch, proportional to its size.

    Reference: Goyal et al. 2017, section 2.1.

    >>> linear_scaling(0.1, 8192)
    3.2
    """
    return learning_rate * batch_size / base


def create_schedule(
    name: str,
    learning_rate: float,
    steps: int,
    *,
    warmup: int = 0,
    warmup_kind: str = "gradual",
    warmup_rate: float | None = None,
) -> Callable[[int], float]:
    """The learning rate as a function of the step, `0 <= step < steps`.

    Args:
      name: `constant`; `cosine`, to zero at `steps`; `step`, divided by 10 after half and again
        after three quarters of the steps; `one_cycle`, from a 25th of the rate in half a cosine up
        to it, over the first 30 % of the steps, and in another one down to a 250,000th of it at
        `steps`; `plateau`, constant here (`reduce_on_plateau` does the rest).
      learning_rate: the largest value.
      steps: the length of the whole run.
      warmup: steps before the rest.
      warmup_kind: what they are: `gradual`, a linear rise from `warmup_rate` to the learning rate,
        or `constant`, at `warmup_rate` throughout.
      warmup_rate: None for `learning_rate / warmup`, of a gradual warm-up alone. Goyal et al. begin
        at the rate of the small batch, which is that of `linear_scaling` before it scales.

    Raises: UserError for an unknown name, a rate that is not positive, a warm-up as long as the
    run or before `one_cycle`, which has its own, a constant one without a rate, and a rate without
    a warm-up.

    Reference: cosine, Loshchilov and Hutter 2017, equation 5; step, He et al. 2015, section 4.2;
    warm-up, Goyal et al. 2017, section 2.2, which compares none, constant and gradual; one cycle,
    Smith 2018, "A disciplined approach to neural network hyper-parameters: part 1", section 4.1.
    Differs: one cycle is two halves of cosines, not three lines, and momentum is not cycled the
    other way.

    >>> rate = create_schedule("cosine", 0.4, 104, warmup=4)
    >>> [round(float(rate(step)), 3) for step in (0, 3, 4, 54, 104)]
    [0.1, 0.4, 0.4, 0.2, 0.0]
    >>> rate = create_schedule("cosine", 0.4, 104, warmup=4, warmup_kind="constant",
    ...                        warmup_rate=0.1)
    >>> [round(float(rate(step)), 3) for step in (0, 3, 4, 54, 104)]
    [0.1, 0.1, 0.4, 0.2, 0.0]
    """
    if name not in SCHEDULES:
        raise unknown("schedule", name, SCHEDULES)
    if not learning_rate > 0:
        raise UserError(f"the learning rate must be positive, not {learning_rate}")
    _require_warmup(warmup, steps, warmup_kind, warmup_rate, learning_rate)
    if name == "one_cycle" and warmup:
        raise UserError("one_cycle rises by itself: it takes no warm-up")
    rest = steps - warmup
    if name == "one_cycle":  # of a run of less than four steps the beginning
        steps = max(steps, math.ceil(1 / RISING))
        return optax.cosine_onecycle_schedule(
            steps, learning_rate, RISING, div_factor=1 / FIRST, final_div_factor=FIRST / LAST
        )
    if name == "cosine":
        schedule = optax.cosine_decay_schedule(learning_rate, max(rest, 1))
    elif name == "step":
        drops = {math.ceil(share * steps) - warmup: 0.1 for share in (0.5, 0.75)}
        schedule = optax.piecewise_constant_schedule(learning_rate, drops)
    else:
        schedule = optax.constant_schedule(learning_rate)
    if not warmup:
        return schedule
    if warmup_kind == "constant":
        before = optax.constant_schedule(warmup_rate)
    else:
        begin = learning_rate / warmup if warmup_rate is None else warmup_rate
        before = optax.linear_schedule(begin, learning_rate, max(warmup - 1, 1))
    return optax.join_schedules([before, schedule], [warmup])


def _require_warmup(warmup, steps, kind, rate, learning_rate):
    if kind not in WARMUPS:
        raise unknown("kind of warm-up", kind, WARMUPS)
    if not 0 <= warmup < max(steps, 1):
        raise UserError(f"a warm-up of {warmup} steps does not fit a run of {steps} steps")
    if rate is not None and not rate > 0:
        raise UserError(f"the learning rate of the warm-up must be positive, not {rate}")
    if kind == "gradual" and rate is not None and rate > learning_rate:
        raise UserError(f"a gradual warm-up rises to {learning_rate}, not falls from {rate}")
    if kind == "constant" and warmup and rate is None:
        raise UserError("a constant warm-up needs its learning rate, as warmup_rate 0.1")
    if not warmup and (rate is not None or kind == "constant"):
        raise UserError("a kind or a learning rate of a warm-up needs its steps, as warmup 500")


def reduce_on_plateau(
    *, factor: float = 0.1, patience: int = 5
) -> tuple[optax.GradientTransformation, Callable]:
    """Updates scaled by a factor that falls when an observed value stops improving.

    Returns: a transformation to chain behind the learning rate (`create_optimizer(..., plateau=…)`
    does it), which multiplies what comes by its scale, and
    `observe(opt_state, value) -> opt_state`, to be called with the validation loss after each
    evaluation: after `patience` values without a new minimum the scale is multiplied by `factor`.
    The scale and what it has seen are in the optimizer's state, so they are saved with it.

    >>> plateau, observe = reduce_on_plateau(factor=0.5, patience=1)
    >>> state = plateau.init({})
    >>> for loss in (1.0, 2.0):
    ...     state = observe(state, loss)
    >>> float(plateau.update(1.0, state)[0])
    0.5
    """
    # Optax wants a tolerance above 0; of numbers near a loss this one takes nothing away.
    least = {"rtol": 0.0, "atol": float(np.finfo(np.float32).tiny)}
    plateau = contrib.reduce_on_plateau(factor=factor, patience=patience, **least)

    def scale(updates, state, params=None):
        return jax.tree.map(lambda u: u * state.scale, updates), state

    def observe(opt_state, value):
        def see(node):
            return plateau.update((), node, value=value)[1] if _is_plateau(node) else node

        return jax.tree.map(see, opt_state, is_leaf=_is_plateau)

    return optax.GradientTransformation(plateau.init, scale), observe


def plateau_scale(opt_state) -> float:
    """The factor that `reduce_on_plateau` has come down to, 1 where the optimizer has none.

    >>> plateau_scale(optax.sgd(0.1).init({}))
    1.0
    """
    nodes = jax.tree.leaves(opt_state, is_leaf=_is_plateau)
    return next((float(node.scale) for node in nodes if _is_plateau(node)), 1.0)


def _is_plateau(node):
    return isinstance(node, contrib.ReduceLROnPlateauState)
