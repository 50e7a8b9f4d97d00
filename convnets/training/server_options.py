"""What a parameter server is told beside how to train, as a part of a run's options."""

import dataclasses
import math

from ..errors import UserError


@dataclasses.dataclass(frozen=True)
class ServerOptions:
    """Of `parallel="parameter-server"` alone; durations are in steps of one worker."""

    shards: int = 1
    """Processes that the parameters are divided over, on a parameter server."""
    push_every: int = 1
    """Steps of a worker whose mean gradient it pushes to the parameter server."""
    fetch_every: int = 1
    """Steps of a worker between two fetches of the parameters from the parameter server."""
    staleness_bound: int | None = None
    """Pushes that a worker of a parameter server may be ahead of the slowest and still begin
    another. None: any number."""
    warm_start: int = 0
    """Steps that the first worker of a parameter server does alone before the others begin."""
    ray_address: str | None = None
    """Address of a Ray cluster for the parameter server, as HOST:6379. None: one is started on this
    machine, and listens on 127.0.0.1 alone."""


SERVER = tuple(field.name for field in dataclasses.fields(ServerOptions))


def uses_server(options) -> bool:
    """Whether a run is trained by a parameter server."""
    return options.parallel == "parameter-server"


def steps_of_an_update(options) -> int:
    """Batches in one update of the parameters, which schedules count."""
    return options.push_every if uses_server(options) else options.accumulate


def without_limits(options):
    """The options of the optimizer: limits of the gradient are the workers' to keep, where there is
    a parameter server, for they see the whole of it."""
    if not uses_server(options):
        return options
    return dataclasses.replace(options, clip=None, clip_value=None, clip_adaptive=None)


def round_steps(options, steps: int) -> int:
    """A number of steps, rounded up so that every worker makes as many whole pushes.

    Raises: UserError for a warm start that leaves the others nothing to do.
    """
    warm = warm_steps(options)
    every = options.workers * options.push_every
    if steps and warm >= steps:
        raise UserError(
            f"a warm start of {options.warm_start} steps leaves the other workers none of the "
            f"{steps} of the run"
        )
    return warm + math.ceil((steps - warm) / every) * every if steps else 0


def warm_steps(options):
    """The steps of a warm start, in whole pushes."""
    return math.ceil(options.warm_start / options.push_every) * options.push_every
