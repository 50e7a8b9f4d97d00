"""Where the network becomes the limit: what is archived bears out what is claimed."""

import statistics

import pytest

from .claims import load, read


def test_the_papers_figures_are_those_of_29_hours_and_one():
    experiment = load("many_devices")
    found = experiment.check_paper()
    assert found["efficiency_of_the_paper"] == pytest.approx(29 / 32)
    assert found["gradient_megabytes"] == pytest.approx(102.2, abs=0.1)  # "100 MB", section 4.2
    times = found["foretold"]["50 Gbit/s, hosts of 8"]["all-reduce"]
    assert times[experiment.DEVICES.index(8)] == pytest.approx(0.232, abs=0.001)
    assert found["efficiency_of_the_model"] > found["efficiency_of_the_paper"]
    # "about 15 Gbit/s", section 4.2, is what the paper reckons with.
    assert 8 < found["gigabits_for_the_paper"] < 16


def test_measured_and_foretold():
    archive, experiment = read("scaling")
    assert archive["command"] == "python experiments/scaling.py"
    measured = experiment.lines_of(archive, "processes")
    assert [(x["processes"], x["scaling"]) for x in measured] == [
        (1, "weak"),
        (2, "weak"),
        (2, "strong"),
        (4, "weak"),
        (4, "strong"),
    ]
    for line in measured:
        assert len(line["step_seconds"]) == archive["settings"]["repetitions"] >= 5
    step = {(x["processes"], x["scaling"]): statistics.median(x["step_seconds"]) for x in measured}
    assert step[4, "weak"] > step[2, "weak"]  # four processes share two cores
    for _, alone, ways in experiment.foretold_lines(archive):
        assert ways["all-reduce"][0] == pytest.approx(alone)
        last = {way: seconds[-1] for way, seconds in ways.items()}
        assert max(last["all-reduce"], last["server, 16 shards"]) < last["server, 1 shard"] / 2
        assert last["model parallel"] > 2 * alone
