import time

import pytest

from convnets.benchmark import timing
from convnets.benchmark.timing import Contestant, count_steps, take_turns


@pytest.fixture
def clock(monkeypatch):
    """Time that passes only where a contestant says so."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: None)

    def contestant(name, seconds_of_step, turns):
        def run(steps):
            now[0] += steps * seconds_of_step
            turns.append((name, steps))

        return Contestant(name, run)

    return contestant


@pytest.mark.parametrize("step", [1e-5, 1e-3, 0.3, 5.0])
def test_a_repetition_is_long_enough_and_not_much_longer(clock, step):
    turns = []
    steps = count_steps(clock("a", step, turns).run, 1.0)
    assert 1.0 <= steps * step * (1 + 1e-9) <= max(1.0 + step, step)
    assert sum(steps for _, steps in turns) * step < 1.5 + 2 * step


def test_contestants_take_turns_in_changing_order(clock):
    turns = []
    rates = take_turns([clock("a", 0.1, turns), clock("b", 0.25, turns)], 3, 1.0)
    assert rates == {"a": pytest.approx([10.0] * 3), "b": pytest.approx([4.0] * 3)}
    assert [name for name, _ in turns[-6:]] == ["a", "b", "b", "a", "a", "b"]


def test_the_garbage_collector_rests_while_time_is_taken():
    import gc

    seen = []
    timing.time_steps(lambda steps: seen.append(gc.isenabled()), 1)
    assert seen == [False]
    assert gc.isenabled()
