"""Two-layer sigmoidal networks of growing width: what is archived bears out what is claimed."""

import numpy as np

from .claims import read

ROUNDING = 2e-6  # of least squares with many like columns


def test_the_error_falls_from_4_units_on_down_to_rounding_for_every_target():
    archive, experiment = read("universal_approximation")
    assert archive["command"] == "python experiments/universal_approximation.py"
    for target in experiment.TARGETS:
        errors = dict(experiment.middle(archive, target))
        assert list(errors) == [2**k for k in range(11)]
        for width in (width for width in errors if 4 <= width <= 256):
            assert errors[4 * width] < max(errors[width], ROUNDING), (target, width)
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
