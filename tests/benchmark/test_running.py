import pytest

from convnets.benchmark import memory
from convnets.benchmark.running import start
from convnets.benchmark.workloads import compile_program, create_workload
from convnets.errors import UserError


@pytest.mark.parametrize("mode", ["train", "infer"])
def test_a_contestant_does_as_many_steps_as_asked(mode):
    program = compile_program(create_workload("linear", 4, mode=mode))
    done = []

    def counting(state, batch):
        done.append(state)
        return program.compiled(state, batch)

    contestant = start(program._replace(compiled=Spy(program.compiled, counting)))
    assert len(done) == 1
    contestant.run(3)
    assert len(done) == 4
    if mode == "train":  # each step goes on from the one before
        assert [state is done[0] for state in done] == [True, False, False, False]


class Spy:
    """A compiled function whose calls are seen."""

    def __init__(self, compiled, call):
        self.memory_analysis = compiled.memory_analysis
        self.call = call

    def __call__(self, *args):
        return self.call(*args)


def test_nothing_is_placed_where_memory_does_not_suffice(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 10)
    program = compile_program(create_workload("linear", 4))
    with pytest.raises(UserError, match="a batch of 4 needs"):
        start(program._replace(arguments=lambda: pytest.fail("placed")))
