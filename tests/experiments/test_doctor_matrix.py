"""The doctor on broken set-ups: what is archived bears out what is claimed."""

import pytest

import convnets

from .claims import load, read_part


@pytest.fixture(scope="module")
def found():
    return read_part("doctor_matrix")


def test_every_set_up_is_examined_by_every_check(found):
    archive, experiment = found
    assert archive["command"] == "python experiments/doctor_matrix.py"
    assert [result["setup"] for result in archive["results"]] == list(experiment.ALL)
    for result in archive["results"]:
        checks = dict.fromkeys(finding["check"] for finding in result["findings"])
        assert list(checks) == list(experiment.doctor.CHECKS)


def test_ten_are_diagnosed_and_healthy_ones_pass(found):
    archive, _ = found
    broken = [result for result in archive["results"] if result["expected"]]
    assert len(broken) == 10
    assert all(result["diagnosed"] for result in broken)
    healthy = [r for r in archive["results"] if not r["expected"] and not r["unseen"]]
    assert len(healthy) == 3
    assert not [name for result in healthy for name in result["noticed"]]


def test_false_alarms_are_counted_as_they_are_declared(found):
    archive, experiment = found
    for result in archive["results"]:
        setup = experiment.ALL[result["setup"]]
        noticed = set(result["noticed"]) - {result["expected"]}
        alarms = {
            name for name in noticed if not setup.follows or not name.startswith(setup.follows)
        }
        assert set(result["false_alarms"]) == (set() if result["unseen"] else alarms)


@pytest.mark.parametrize("name", ["labels shuffled", "rate 1000 times too small"])
def test_the_doctor_of_today_diagnoses_them_too(name):
    experiment = load("doctor_matrix")
    setup, digits = experiment.ALL[name], convnets.load_dataset("digits")
    checks = (setup.wrong.split(":")[0],)
    result = experiment.examine(setup, digits, 1, 100, checks)
    assert result["diagnosed"]
    assert not result["false_alarms"]


def test_five_more_were_tried(found):
    archive, _ = found
    assert len([result for result in archive["results"] if result["unseen"]]) == 5
