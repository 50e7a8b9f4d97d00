"""The training loop: a generator; the body of the `for` is the place for everything else."""

import contextlib
import itertools
import time
from collections.abc import Callable, Iterable, Iterator

import jax
import jax.numpy as jnp

from .state import TrainState


def train(
    step: Callable, state: TrainState, batches: Callable[[int], Iterable] | Iterable, *, stop: int
) -> Iterator[tuple[int, TrainState, dict]]:
    """Runs steps until the state has seen `stop` batches.

    Args:
      step: from `parallel.compile`; a plain function is compiled by `jax.jit`.
      state: where to start. It is copied once, and stays the caller's.
      batches: a function from a step number to the batches from that step on, as `batches` makes,
        called with `state.step`, and closed at the end; or an iterable of the batches from there
        on, of which no more are taken than there are steps to run.
      stop: the number of the step after which to stop.

    Yields: `number, state, metrics` after each step; `number` is `state.step`. Nothing is waited
    for: metrics are `(sum, count)` pairs still being computed. The state's buffers are given to
    the next step, so it lives until the next iteration: copy what you keep (`parallel.gather`).
    A step that runs several in one call yields after each call, its metrics summed; calls end at
    multiples of their number, so that the sums do not depend on where a run was taken up.
    Ends early when the batches end.

    >>> step = lambda state, batch: (state.replace(step=state.step + 1), {"loss": (batch, 1)})
    >>> state = TrainState(jnp.int32(0), None, None, None, None)
    >>> [(number, int(metrics["loss"][0])) for number, state, metrics in
    ...  train(step, state, [10, 20, 30], stop=2)]
    [(1, 10), (2, 20)]
    """
    if not hasattr(step, "place_state"):
        step = jax.jit(step, donate_argnums=0)
    yield from advance(step, jax.tree.map(jnp.copy, state), batches, stop=stop)


def advance(step, state: TrainState, batches, *, stop: int):
    """As `train`, with a compiled step and a state that is given up to it, not copied."""
    number = int(state.step)
    if hasattr(step, "place_state"):
        state = step.place_state(state)
    with contextlib.ExitStack() as stack:
        if callable(batches):
            batches = batches(number)
            if hasattr(batches, "close"):  # ends the threads behind it when this generator ends
                stack.callback(batches.close)
        batches = iter(batches)
        while number < stop:
            taken = list(itertools.islice(batches, end_of_call(step, number, stop) - number))
            if not taken:
                return
            state, metrics = step(state, taken if _steps_per_call(step) > 1 else taken[0])
            number += len(taken)
            yield number, state, metrics


def end_of_call(step, number: int, stop: int) -> int:
    """The step after which a call that begins after step `number` ends."""
    steps = _steps_per_call(step)
    return min(stop, number - number % steps + steps)


def _steps_per_call(step) -> int:
    return getattr(step, "steps_per_call", 1)


class Waiting:
    """The items of an iterator, and how long they were waited for.

    Attributes:
      seconds: all that `next` has taken so far.

    >>> waiting = Waiting(iter([10, 20]))
    >>> list(waiting), waiting.seconds < 1
    ([10, 20], True)
    """

    def __init__(self, iterator: Iterator):
        self._iterator = iterator
        self.seconds = 0.0

    def __iter__(self):
        return self

    def __next__(self):
        begin = time.monotonic()
        try:
            return next(self._iterator)
        finally:
            self.seconds += time.monotonic() - begin
