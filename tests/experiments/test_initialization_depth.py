"""Deep ReLU networks from two initializations: what is archived bears out what is claimed."""

import statistics

import pytest

from .claims import read


@pytest.fixture(scope="module")
def found():
    return read("initialization_depth")


def test_every_start_is_trained_with_every_rate(found):
    archive, experiment = found
    settings = archive["settings"]
    assert archive["command"] == "python experiments/initialization_depth.py"
    assert settings["seeds"] == [0, 1, 2]
    assert settings["depths"] == [22, 30]
    starts = [(r["depth"], r["initialization"], r["seed"]) for r in archive["results"]]
    assert len(set(starts)) == len(starts) == 2 * len(experiment.INITIALIZERS) * 3
    for result in archive["results"]:
        assert [trial["rate"] for trial in result["trials"]] == settings["rates"]


def test_both_converge_at_22_and_only_he_at_30(found):
    archive, experiment = found
    converged = {
        start: sum(map(experiment.has_converged, trials))
        for start, trials in experiment.best_trials(archive).items()
    }
    assert converged == {(22, "He"): 3, (22, "Xavier"): 3, (30, "He"): 3, (30, "Xavier"): 0}


def test_he_converges_earlier_at_22(found):
    archive, experiment = found
    trials = experiment.best_trials(archive)
    steps = {
        name: [
            experiment.steps_to_learn(trial, archive["settings"]["steps"])
            for trial in trials[22, name]
        ]
        for name in experiment.INITIALIZERS
    }
    assert max(steps["He"]) < min(steps["Xavier"])


def test_gradients_at_the_start_differ_by_a_factor_of_root_2_a_layer(found):
    archive, _ = found
    for depth in (22, 30):
        norms = {
            name: [
                statistics.median(result["gradients"])
                for result in archive["results"]
                if (result["depth"], result["initialization"]) == (depth, name)
            ]
            for name in ("He", "Xavier")
        }
        ratio = statistics.median(norms["He"]) / statistics.median(norms["Xavier"])
        # Each of the layers of one width counts; the first layer and the head have other factors.
        assert 2 ** ((depth - 6) / 2) < ratio < 2 ** ((depth + 4) / 2)
