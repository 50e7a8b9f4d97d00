"""Waiting for all against waiting for none: what is archived bears out what is claimed."""

import statistics

import pytest

from .claims import read_part


@pytest.fixture(scope="module")
def found():
    """The archive's groups, and the experiment."""
    archive, experiment = read_part("sync_versus_async")
    assert archive["command"] == "python experiments/sync_versus_async.py"
    groups = experiment.group(archive)
    assert list(groups) == [(way, n) for n in (1, 2, 4) for way in experiment.WAYS]
    for lines in groups.values():
        assert [line["seed"] for line in lines] == archive["settings"]["seeds"]
        assert {line["test_examples"] for line in lines} == {10_000}
    return groups, experiment


def mean_error(lines):
    return statistics.mean(line["test_error_percent"] for line in lines)


def mean_staleness(experiment, lines):
    ages = experiment.add_staleness(lines)
    return sum(age * many for age, many in ages.items()) / sum(ages.values())


def test_one_worker_is_the_same_training_three_times(found):
    groups, experiment = found
    errors = {
        way: [line["test_error_percent"] for line in groups[way, 1]] for way in experiment.WAYS
    }
    assert errors["asynchronous"] == pytest.approx(errors["synchronous"], abs=0.1)
    assert errors["local"] == pytest.approx(errors["synchronous"], abs=0.1)
    assert mean_staleness(experiment, groups["asynchronous", 1]) == 0


def test_waiting_costs_nothing_in_error_and_staleness_does(found):
    groups, experiment = found
    for workers in (2, 4):
        one, many = groups["synchronous", 1], groups["synchronous", workers]
        assert mean_error(many) == pytest.approx(mean_error(one), abs=0.2)
    ages = [mean_staleness(experiment, groups["asynchronous", n]) for n in (1, 2, 4)]
    assert ages == sorted(ages)
    assert ages[2] > 1
    assert mean_error(groups["asynchronous", 4]) > mean_error(groups["synchronous", 4]) + 0.5
