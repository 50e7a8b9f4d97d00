"""The lecture's optimizers on one task: what is archived bears out what is claimed."""

import statistics

from .claims import read

GRADIENTS = ("sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam")


def test_every_optimizer_has_the_same_search():
    archive, experiment = read("optimizers")
    assert archive["command"] == "python experiments/optimizers.py"
    runs = {(result["optimizer"], result["seed"]) for result in archive["results"]}
    assert runs == {(name, seed) for name in experiment.LABELS for seed in (0, 1, 2)}
    for result in archive["results"]:
        rates = [trial["rate"] for trial in result["trials"]]
        assert rates == experiment.rates_of(result["optimizer"])
        assert len(rates) == archive["settings"]["rates"] == 5


def test_the_best_rate_is_inside_of_its_grid():
    archive, experiment = read("optimizers")
    for name, trials in experiment.best_trials(archive).items():
        rates = experiment.rates_of(name)
        assert rates[0] > trials[0]["rate"] > rates[-1], name


def test_gradient_methods_come_about_as_far_and_hill_climbing_does_not():
    archive, experiment = read("optimizers")
    losses = {
        name: [trial["validation_loss"] for trial in trials]
        for name, trials in experiment.best_trials(archive).items()
    }
    best = min(statistics.mean(losses[name]) for name in GRADIENTS)
    for name in GRADIENTS:
        assert statistics.mean(losses[name]) < 1.1 * best, name
        assert statistics.mean(losses[name]) < 0.6 * min(losses["hill_climbing"]), name
