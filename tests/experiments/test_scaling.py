"""Where the network becomes the limit: what is archived bears out what is claimed."""

import os

import pytest

import convnets

from .claims import load, read


@pytest.fixture(scope="module")
def found():
    """What the model makes of the paper's machines."""
    return load("many_devices").check_paper()


def test_the_papers_figures_are_those_of_29_hours_and_one(found):
    experiment = load("many_devices")
    assert found["efficiency_of_the_paper"] == pytest.approx(29 / 32)
    assert found["gradient_megabytes"] == pytest.approx(102.2, abs=0.1)  # "100 MB", section 4.3
    times = found["predicted"]["50 Gbit/s, hosts of 8"]["all-reduce"]
    assert times[experiment.DEVICES.index(8)] == pytest.approx(0.232, abs=0.001)
    assert found["seconds_of_the_model"] == times[experiment.DEVICES.index(256)]


def test_the_check_by_the_paper_is_not_met_and_why(found):
    """All but the first layer's sum, of 7 x 7 x 3 x 64 weights, hides behind the backward pass; the
    paper lost 24 ms. A model that comes nearer needs another README."""
    size = 4 * 7 * 7 * 3 * 64
    inside = 2 * (7 / 8 * size / 20e9 + 7 * 5e-6)
    between = 2 * (31 / 32 * size / 6.25e9 + 5 * 10e-6)
    exposed = found["seconds_of_the_model"] - found["step_seconds"][0]
    assert exposed == pytest.approx(inside + between)
    missing = found["seconds_of_the_paper"] - found["seconds_of_the_model"]
    assert missing == pytest.approx(0.024, abs=0.0005)
    assert found["efficiency_of_the_model"] - found["efficiency_of_the_paper"] > 0.09


def test_a_third_of_the_bandwidth_that_the_paper_reckons_with_is_too_little():
    """ "About 15 Gbit/s" (section 4.3) hide 100 MB behind 120 ms; a third of it does not."""
    experiment = load("many_devices")
    network = experiment.paper_network(0.232)

    def efficiency(gigabits):
        link = experiment.PAPER.outside._replace(bandwidth=gigabits * experiment.GBIT)
        cluster = experiment.PAPER._replace(outside=link)
        return network.alone / experiment.interconnects.synchronous(network, 256, cluster)

    assert efficiency(25) > 0.95
    assert efficiency(5) < 0.6


def test_a_network_is_the_one_that_was_timed():
    summary = convnets.summarize(convnets.create_model("alexnet"), (224, 224, 3))
    network = load("many_devices").measured_network("alexnet", 0.6, 32)
    assert sum(layer.gradient for layer in network.layers) == 4 * summary.parameters
    assert network.layers[-1].output == 4 * 1000


def test_measured():
    """Cores do at least two fifths of what one does alone, and not more than it."""
    archive, experiment = read("scaling")
    assert archive["command"] == "python experiments/scaling.py"
    measured = experiment.measured_lines(archive)
    assert [(x["processes"], x["scaling"]) for x in measured] == [
        (1, "weak"),
        (2, "weak"),
        (2, "strong"),
        (4, "weak"),
        (4, "strong"),
    ]
    for line in experiment.lines_of(archive, "processes"):
        assert 0 <= line["repetition"] < archive["settings"]["repetitions"]
    turns = len(measured) * archive["settings"]["repetitions"]
    assert len(experiment.lines_of(archive, "processes")) == turns >= 5 * len(measured)
    for line in measured:
        assert 0.4 < line["efficiency"] < 1.1


def test_predicted():
    archive, experiment = read("scaling")
    for _, alone, ways in experiment.predicted_lines(archive):
        assert ways["all-reduce"][0] == pytest.approx(alone)
        last = {way: seconds[-1] for way, seconds in ways.items()}
        assert last["all-reduce"] < last["server, 16 shards"] < last["server, 1 shard"] / 2
        assert last["model parallel"] > 2 * alone


def test_efficiency_is_that_of_a_core():
    """Four processes on two cores: as many images each take twice as long, a quarter of them half
    as long; 1 s, 4 s and 0.5 s are medians."""
    steps = {(1, "weak"): (3.0, 1.0, 1.0), (4, "weak"): (4.0, 4.0, 1.0), (4, "strong"): (0.5,)}
    lines = [
        {"kind": "processes", "processes": processes, "scaling": scaling, "cores": 2}
        | {"step_seconds": x}
        for (processes, scaling), times in steps.items()
        for x in times
    ]
    found = load("scaling").measured_lines({"results": lines})
    assert [x["cores"] for x in found] == [1, 2, 2]
    assert [x["efficiency"] for x in found] == [1.0, 0.5, 1.0]


def test_where_the_network_becomes_the_limit():
    describe = load("scaling").describe
    assert describe(11.0, [11.0] + 9 * [20.0] + [22.0]) == "50.0 %"
    assert describe(11.0, [11.0, 20.0, 23.0] + 8 * [44.0]) == "25.0 % (from 4 on)"


def test_a_busy_machine_is_refused_before_anything_is_timed(monkeypatch, tmp_path):
    experiment = load("scaling")
    monkeypatch.setattr(experiment, "count_cores", lambda: 4)
    monkeypatch.setattr(os, "getloadavg", lambda: (2.1, 0.0, 0.0))
    path = tmp_path / "scaling.json"
    with pytest.raises(convnets.UserError, match="2.1, and may be 2 at most on 4 cores"):
        experiment.main(experiment.Config(archive=path))
    assert not path.exists()
    experiment.require_idle(2.0)
