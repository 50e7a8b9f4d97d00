"""LeNet-5 on MNIST under attack: what is archived bears out what is claimed."""

import pytest

from .claims import read_part


@pytest.fixture(scope="module")
def found():
    return read_part("adversarial_mnist")


def test_signs_fool_it_noise_does_not_and_training_helps(found):
    archive, experiment = found
    seeds = archive["settings"]["seeds"]
    assert archive["settings"]["epsilon"] == 0.25
    by_training = {
        name: [r for r in archive["results"] if r["training"] == name]
        for name in experiment.TRAININGS
    }
    for results in by_training.values():
        assert [result["seed"] for result in results] == seeds
    for result in by_training["plain"] + by_training["longer"]:
        assert result["test_examples"] == 10_000
        assert result["clean_error"] < (2 if result["training"] == "plain" else 0.8)
        assert result["gradient_sign_error"] > 60
        assert result["random_signs_error"] < result["gradient_sign_error"] / 5
    for result in by_training["adversarial"]:
        assert result["gradient_sign_error"] < 15


def test_projected_steps_are_never_weaker(found):
    archive, _ = found
    for result in archive["results"]:
        assert result["projected_is_weaker_on"] == 0
        assert result["projected_error"] >= result["gradient_sign_error_there"]


def test_lbfgs_needs_less_than_the_least_sign(found):
    archive, _ = found
    for result in archive["results"]:
        assert result["smallest"]
        for line in result["smallest"]:
            assert line["lbfgs_fooled"]
            assert line["lbfgs"] < line["gradient_sign"]
