"""Gradients through deep stacks: what is archived bears out what is claimed."""

from .claims import read


def test_sigmoids_lose_the_gradient_and_relus_and_shortcuts_carry_it():
    archive, experiment = read("vanishing_gradients")
    assert archive["command"] == "python experiments/vanishing_gradients.py"
    assert len(archive["results"]) == 3 * len(experiment.STACKS)
    for result in archive["results"]:
        assert len(result["gradients"]) == archive["settings"]["depth"] == 30
        ratio = experiment.ratio(result["gradients"])
        if result["stack"] == "sigmoid":
            assert ratio < 1e-10
        else:
            assert ratio > 0.03


def test_sigmoids_learn_nothing_and_the_residual_stack_learns():
    archive, _ = read("vanishing_gradients")
    for result in archive["results"]:
        if result["stack"] == "sigmoid":
            assert result["last_loss"] > 2.2
        if result["stack"] == "residual":
            assert result["last_loss"] < 0.5
