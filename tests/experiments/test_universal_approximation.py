"""Two-layer sigmoidal networks of growing width: what is archived bears out what is claimed."""

import itertools

import numpy as np

from .claims import read


def test_the_error_falls_with_the_width_for_every_target():
    archive, experiment = read("universal_approximation")
    assert archive["command"] == "python experiments/universal_approximation.py"
    for target in experiment.TARGETS:
        errors = dict(experiment.middle(archive, target))
        assert list(errors) == [2**k for k in range(11)]
        falling = [errors[width] for width in (4, 16, 64, 256)]
        assert all(after < before for before, after in itertools.pairwise(falling)), target
        assert errors[1024] < 0.6 * errors[64] < 0.6 * errors[1], target


def test_the_fits_are_those_of_their_errors():
    archive, experiment = read("universal_approximation")
    drawn = [result for result in archive["results"] if "fits" in result]
    assert [result["width"] for result in drawn] == list(experiment.DRAWN)
    for result in drawn:
        for target, function in experiment.TARGETS.items():
            wanted = function(np.linspace(-1, 1, 201))
            error = np.abs(result["fits"][target] - wanted).max()
            assert error <= result["errors"][target] + 1e-4
