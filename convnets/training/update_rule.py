"""From a run's options to how its parameters are updated."""

import math
from collections.abc import Callable, Mapping
from functools import partial

import optax

from ..errors import UserError
from .optimizers import create_optimizer
from .options import TrainingOptions
from .schedules import create_schedule, reduce_on_plateau
from .selection import join_scales, scale_rates
from .server_options import steps_of_an_update, without_limits
from .sharpness import sharpness_aware

# What an optimizer of the caller's own would not hear of.
OF_THE_NAMED = (
    "learning_rate schedule warmup warmup_kind warmup_rate weight_decay "
    "clip clip_value clip_adaptive layer_decay rate_scales freeze accumulate"
)


def create_update_rule(
    options: TrainingOptions,
    start: int,
    stop: int,
    depth_scales: Mapping[str, float] | None = None,
) -> tuple[Callable[[int], float] | None, optax.GradientTransformation, Callable | None]:
    """The learning rate, the optimizer, and what observes a plateau.

    Args:
      options: with the learning rate filled in, or a function as its schedule.
      start, stop: the steps that the run goes from and to.
      depth_scales: factors of the rate by patterns of paths, which `layer_decay` comes to; they are
        multiplied with the options' `rate_scales`.

    Returns: the learning rate as a function of the number of updates before, None for an optimizer
    of the caller's own; the optimizer; and `(opt_state, validation loss) -> opt_state`, None
    without a plateau schedule.

    Raises: UserError for an unknown optimizer or schedule, and for options that an optimizer of the
    caller's own would not hear of.
    """
    options = without_limits(options)
    if isinstance(options.optimizer, optax.GradientTransformation):
        _require_untouched(options, OF_THE_NAMED)
        return None, optax.with_extra_args_support(options.optimizer), None
    # Options count steps, an optimizer its updates; a state that is given brings earlier ones.
    each = steps_of_an_update(options)
    before, updates = start // each, (stop - start) // each
    warmup = math.ceil(options.warmup / each)
    if each > 1 and warmup and warmup >= updates:
        raise UserError(
            f"a warm-up of {options.warmup} steps leaves no update, of {each} steps each, in a run "
            f"of {stop - start}"
        )
    schedule = options.schedule
    if not callable(schedule):
        schedule = create_schedule(
            schedule,
            options.learning_rate,
            updates,
            warmup=warmup,
            warmup_kind=options.warmup_kind,
            warmup_rate=options.warmup_rate,
        )
    plateau, observe = reduce_on_plateau() if options.schedule == "plateau" else (None, None)

    def learning_rate(count):
        return schedule(count - before)

    optimizer = create_optimizer(
        options.optimizer,
        learning_rate,
        weight_decay=options.weight_decay,
        clip_value=options.clip_value,
        clip_adaptive=options.clip_adaptive,
        clip=options.clip,
        rate_scales=options.rate_scales,
        freeze=options.freeze,
        plateau=plateau,
    )
    if depth_scales:
        optimizer = scale_rates(optimizer, depth_scales)
    if options.accumulate > 1:
        optimizer = optax.MultiSteps(optimizer, options.accumulate).gradient_transformation()
    return learning_rate, optimizer, observe


def climb(options: TrainingOptions) -> Callable | None:
    """What makes a gradient function sharpness-aware, for `make_step`; None where that is not
    asked for."""
    if options.sam is None:
        return None
    scales = join_scales(options.freeze, options.rate_scales)
    return partial(sharpness_aware, radius=options.sam, scales=scales)


def _require_untouched(options, names):
    defaults = TrainingOptions()
    given = [name for name in names.split() if getattr(options, name) != getattr(defaults, name)]
    if given:
        raise UserError(
            f"an optimizer of your own brings its {', '.join(given)} along; build it in with Optax"
        )
