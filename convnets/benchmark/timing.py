"""Speeds that can be compared: contestants take turns, so that a machine's moods meet them all."""

import gc
import math
import time
from collections.abc import Callable
from typing import NamedTuple

REST = 0.2  # seconds between turns, for the threads of the one before to fall asleep


class Contestant(NamedTuple):
    """Something that does the steps of a workload.

    Attributes:
      name: what it is called.
      run: does so many steps, and returns when all of them are done.
      form: what was chosen for it, such as a memory layout; may be empty.
      compile_seconds: before the first step; None where nothing is compiled.
      peak_bytes: of memory, as far as it is known.
    """

    name: str
    run: Callable[[int], None]
    form: str = ""
    compile_seconds: float | None = None
    peak_bytes: int | None = None


def time_steps(run: Callable[[int], None], steps: int) -> float:
    """Seconds that so many steps take together, without the garbage collector in between."""
    gc.collect()
    gc.disable()
    try:
        begin = time.perf_counter()
        run(steps)
        return time.perf_counter() - begin
    finally:
        gc.enable()


def count_steps(run: Callable[[int], None], seconds: float) -> int:
    """How many steps take so many seconds; the first ones, which warm up, do not count.

    >>> 1 <= count_steps(lambda steps: time.sleep(0.01 * steps), 0.05) <= 5
    True
    """
    run(1)
    steps = 1
    while True:
        taken = time_steps(run, steps)
        if taken > seconds / 4:
            return math.ceil(steps * seconds / taken)
        steps *= 2 if taken == 0 else min(8, math.ceil(seconds / 4 / taken) + 1)


def take_turns(
    contestants: list[Contestant], repetitions: int, seconds: float = 1.0
) -> dict[str, list[float]]:
    """Steps a second of every contestant in every repetition, by name.

    A repetition lets each of them run for about `seconds`, one after the other, in the order given
    and next time in the reverse, so that one's n-th number and another's are a pair.
    """
    steps = {}
    for name, run, *_ in contestants:
        steps[name] = count_steps(run, seconds)
        time.sleep(REST)
    rates = {name: [] for name in steps}
    for repetition in range(repetitions):
        for name, run, *_ in contestants[:: -1 if repetition % 2 else 1]:
            time.sleep(REST)
            rates[name].append(steps[name] / time_steps(run, steps[name]))
    return rates
