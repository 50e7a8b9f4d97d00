"""Few labels and many images: what is archived bears out what is claimed."""

import statistics

import pytest

from .claims import read


@pytest.mark.parametrize("labels", [10, 50, 100, 500])
def test_claim(labels):
    archive, experiment = read("semi_supervised")
    alone, _, agreeing = (experiment.errors(archive, labels, way) for way in experiment.WAYS)
    assert len(alone) == len(agreeing) == 3
    spread = max(statistics.stdev(alone), statistics.stdev(agreeing))
    assert statistics.mean(alone) - statistics.mean(agreeing) > spread
