"""Filters like Gabor functions: what is archived bears out what is claimed."""

import statistics

import numpy as np

from .claims import load, read


def test_pictures_come_back_from_their_bytes():
    pictures = load("pictures")
    given = np.random.default_rng(0).normal(size=(5, 3, 4))
    packed = pictures.pack(given)
    found = pictures.unpack(packed)
    assert found.shape == (5, 3, 4)
    for one, other in zip(given, found):
        scaled = 255 * (one - one.min()) / (one.max() - one.min())
        assert np.abs(scaled - other).max() <= 0.5
    assert pictures.tile(found, 3).shape == (7, 14)


def test_claim():
    archive, experiment = read("filters")
    found = {line["learner"]: statistics.median(line["explained"]) for line in archive["results"]}
    for learner in experiment.LEARNERS:
        assert found[learner] >= experiment.LIKE
        assert found[learner] > found["patches"]
        assert found[learner] > found["noise"]
