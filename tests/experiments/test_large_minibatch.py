"""Goyal's rule in small: what is archived bears out what is claimed."""

import convnets

from .claims import load


def test_a_training_that_diverges_is_lost():
    experiment = load("large_minibatch")
    config = experiment.Config(learning_rate=1e30, epochs=0.1, warmup_epochs=0.05)
    digits = convnets.load_dataset("digits")
    found = experiment.run(config, digits, None, way="scaled, none", batch_size=128, seed=0)
    assert found == {"test_error_percent": None, "lost": True}
