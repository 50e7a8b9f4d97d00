"""A run that validation ends early ends there however often it was taken up."""

import signal

import pytest

import convnets
from convnets.training import reporting

from .small_runs import LINEAR, PLAIN, assert_same_bits, fit, timeless

# Nothing moves at such a rate: the first evaluation is the best.
STILL = PLAIN | {"learning_rate": 1e-20, "evaluate_every": 2, "early_stopping": 3, "steps": 20}
STOPPED = "3 evaluations without a new best on validation"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run in one go, and its folder."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    return fit(workdir=workdir, **STILL), workdir


def test_it_ends_after_as_many_evaluations_without_a_new_best(whole):
    result, workdir = whole
    assert int(result.state.step) == 8
    evaluations = [line for line in result.history if "validation_loss" in line]
    assert [line["step"] for line in evaluations] == [2, 4, 6, 8]
    assert [line.get("stopped") for line in evaluations] == [None, None, None, STOPPED]
    assert int(convnets.load_run(workdir, "best", model=LINEAR).state.step) == 2
    assert int(convnets.load_run(workdir, "last", model=LINEAR).state.step) == 8
    assert fit(**STILL | {"learning_rate": 0.01, "steps": 8}).history[-1].get("stopped") is None


@pytest.mark.parametrize("step", [4, 7])  # just after an evaluation, and between two
def test_an_interrupted_run_ends_at_the_same_step_bit_for_bit(whole, tmp_path, monkeypatch, step):
    add, workdir = reporting.Meter.add, tmp_path / "run"

    def add_and_stop(meter, number, measured):
        add(meter, number, measured)
        if number == step:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(reporting.Meter, "add", add_and_stop)
        stopped = fit(workdir=workdir, **STILL)
    assert (int(stopped.state.step), stopped.signal) == (step, signal.SIGTERM)
    resumed = fit(workdir=workdir, resume=True, **STILL)
    assert_same_bits(resumed.state, whole[0].state)
    assert timeless(resumed.history) == timeless(whole[0].history)


def test_there_is_nothing_left_of_a_run_that_was_ended_unless_it_may_wait_longer(whole, capsys):
    result, workdir = whole
    again = fit(workdir=workdir, resume=True, **STILL | {"progress": True})
    assert_same_bits(again.state, result.state)
    assert timeless(again.history) == timeless(result.history)
    lines = capsys.readouterr().out.splitlines()
    assert "the run is at step 8 already; there is no step left" in lines
    assert lines[-1].endswith(f"of 50; stopped early: {STOPPED}")
    longer = fit(workdir=workdir, resume=True, **STILL | {"early_stopping": 4})
    assert int(longer.state.step) == 10
    assert longer.history[-1]["stopped"].startswith("4 evaluations")


def test_a_new_best_starts_the_count_anew():
    """It is counted in the history of a run whose accuracy goes up and down."""
    options = PLAIN | {"learning_rate": 0.05, "optimizer": "adam", "evaluate_every": 1}
    free = fit(steps=12, **options).history
    seen = [line for line in free if "validation_loss" in line]
    best, since, ends = None, 0, None
    for line in seen:
        value = line["validation_accuracy"], -line["validation_loss"]
        best, since = (value, 0) if best is None or value > best else (best, since + 1)
        if since == 2:
            ends = line["step"]
            break
    stopped = fit(steps=12, early_stopping=2, **options)
    assert int(stopped.state.step) == (ends or 12)
