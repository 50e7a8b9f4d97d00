"""Few labels and many images: what is archived bears out what is claimed."""

import statistics

import pytest

from .claims import read_part


@pytest.mark.parametrize("labels", [10, 50])
def test_claim(labels):
    archive, experiment = read_part("semi_supervised")
    alone, both = (experiment.errors(archive, labels, way) for way in experiment.WAYS)
    assert len(alone) == len(both) == 3
    assert statistics.mean(both) < statistics.mean(alone)
