"""Which steps a call runs, and which batches it takes."""

from typing import NamedTuple

import jax.numpy as jnp
import pytest

from convnets.training import TrainState, train
from convnets.training.loop import end_of_call


class Several(NamedTuple):
    """A step that runs up to four in a call, and notes what it was given."""

    given: list
    steps_per_call: int = 4

    def place_state(self, state):
        return state

    def __call__(self, state, batches):
        self.given.append(batches)
        return state.replace(step=state.step + len(batches)), {"loss": (sum(batches), len(batches))}


def start(step):
    return TrainState(jnp.int32(step), None, None, None, None)


@pytest.mark.parametrize(
    ("first", "stop", "ends"),
    [(0, 9, [4, 8, 9]), (3, 9, [4, 8, 9]), (8, 9, [9]), (4, 8, [8]), (5, 5, [])],
)
def test_calls_end_at_multiples_wherever_they_begin(first, stop, ends):
    step = Several([])
    yielded = [
        number
        for number, *_ in train(step, start(first), lambda number: range(number, 99), stop=stop)
    ]
    assert yielded == ends
    assert [batch for batches in step.given for batch in batches] == list(range(first, stop))


def test_no_batch_is_taken_too_many_and_batches_may_end():
    batches = iter(range(6))
    step = Several([])
    for number, state, metrics in train(step, start(0), batches, stop=5):
        assert int(state.step) == number
        assert metrics["loss"][1] == (4 if number == 4 else 1)
    assert step.given == [[0, 1, 2, 3], [4]]
    assert next(batches) == 5
    assert [number for number, *_ in train(Several([]), start(0), [1] * 6, stop=9)] == [4, 6]


def test_a_plain_step_is_called_for_each_batch():
    def step(state, batch):
        return state.replace(step=state.step + 1), {"loss": (batch, 1)}

    yielded = [(n, int(m["loss"][0])) for n, _, m in train(step, start(2), [5, 6, 7], stop=4)]
    assert yielded == [(3, 5), (4, 6)]
    assert end_of_call(step, 2, 9) == 3
