"""Goyal's rule in small: what is archived bears out what is claimed."""

import statistics

import pytest

import convnets

from .claims import load, read


def test_a_training_that_diverges_is_lost():
    experiment = load("large_minibatch")
    config = experiment.Config(learning_rate=1e30, epochs=0.1, warmup_epochs=0.05)
    digits = convnets.load_dataset("digits")
    found = experiment.run(config, digits, None, way="scaled, none", batch_size=128, seed=0)
    assert found == {"test_error_percent": None, "lost": True}


@pytest.mark.parametrize("lost_at", [{64}, {64, 256}])
def test_a_table_where_the_small_batch_is_lost(lost_at):
    experiment = load("large_minibatch")
    archive, _ = read("large_minibatch")
    for line in archive["results"]:
        if line["batch_size"] in lost_at:
            line |= {"test_error_percent": None, "lost": True}
    assert experiment.covered(archive) == experiment.BASE
    assert "| 64 | 3 lost |" in experiment.table(archive)


def test_warm_up_and_scaling_cover_batches_that_are_lost_without_warm_up():
    archive, experiment = read("large_minibatch")
    assert archive["command"] == "python experiments/large_minibatch.py"
    base, lost = experiment.errors(archive, "scaled, none", experiment.BASE)
    assert len(base) == 3
    assert not lost
    largest = experiment.covered(archive)
    assert largest >= 256
    found, lost = experiment.errors(archive, "scaled, gradual", largest)
    assert len(found) == 3
    assert not lost
    allowed = statistics.mean(base) + statistics.stdev(base)
    assert statistics.mean(found) <= allowed
    without, lost = experiment.errors(archive, "scaled, none", largest)
    assert lost or statistics.mean(without) > allowed + statistics.stdev(base)
