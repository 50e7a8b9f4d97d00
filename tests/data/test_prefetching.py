import threading
import time

import jax
import numpy as np
import pytest

from convnets.data import prefetch


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "prefetch"]


def count_forever(log, closed):
    try:
        for number in range(10**9):
            log.append(number)
            yield number
    finally:
        closed.append(threading.current_thread().name)


def test_a_buffer_that_is_filled_anew_is_no_trap():
    memory = np.zeros(4096 + 64, np.uint8)
    start = -memory.ctypes.data % 64  # what lies so, XLA could take as it is
    buffer = memory[start : start + 4096].view(np.float32)

    def fill():
        for number in range(8):
            buffer[:] = number
            yield {"x": buffer}

    assert [float(batch["x"][-1]) for batch in prefetch(fill(), depth=3)] == [*range(8)]


def test_order_and_end():
    placed = prefetch([{"x": np.arange(3) + n} for n in range(5)])
    for number, batch in enumerate(placed):
        assert isinstance(batch["x"], jax.Array)
        assert batch["x"].tolist() == [number, number + 1, number + 2]
    assert number == 4
    assert not threads()


@pytest.mark.parametrize("depth", [1, 3])
def test_it_reads_ahead_but_not_further_than_asked(depth):
    log = []
    iterator = prefetch(count_forever(log, []), place=lambda x: x, depth=depth)
    assert not log  # nothing before the first batch is asked for
    assert next(iterator) == 0
    deadline = time.monotonic() + 10
    while len(log) < depth + 2 and time.monotonic() < deadline:
        time.sleep(0.001)  # one more is read, and waits for room
    time.sleep(0.05)
    assert len(log) == depth + 2
    iterator.close()


@pytest.mark.parametrize("asked", [0, 1, 5])
def test_closing_ends_the_thread_and_closes_the_source(asked):
    closed = []
    iterator = prefetch(count_forever([], closed), place=lambda x: x)
    assert [next(iterator) for _ in range(asked)] == list(range(asked))
    iterator.close()
    assert not threads()
    assert closed == (["prefetch"] if asked else [])


@pytest.mark.parametrize("where", ["batches", "place"])
def test_errors_come_where_the_batch_would_have(where):
    def numbers():
        yield 1
        yield 2
        if where == "batches":
            raise RuntimeError("no batch 3")
        yield 3

    def place(number):
        if number == 3:
            raise RuntimeError("no batch 3")
        return number

    iterator = prefetch(numbers(), place, depth=5)
    assert [next(iterator), next(iterator)] == [1, 2]
    with pytest.raises(RuntimeError, match="no batch 3"):
        next(iterator)
    assert not threads()


def test_depth_is_at_least_one():
    with pytest.raises(ValueError, match="at least 1"):
        prefetch([], depth=0)


def test_a_function_from_a_step_gives_one():
    from_step = prefetch(lambda start: iter(range(start, start + 3)), place=lambda x: -x)
    assert list(from_step(5)) == [-5, -6, -7]
    with pytest.raises(TypeError, match="not iterable"):
        prefetch(5)
