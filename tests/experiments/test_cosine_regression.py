"""A network of 3 x 1000 units on a cosine: what is archived bears out what is claimed."""

import numpy as np

from .claims import read


def test_the_fit_holds_inside_of_the_interval_alone():
    archive, experiment = read("cosine_regression")
    assert archive["command"] == "python experiments/cosine_regression.py"
    assert archive["settings"]["layers"] == [1000, 1000, 1000]
    assert [result["seed"] for result in archive["results"]] == [0, 1, 2]
    for result in archive["results"]:
        assert result["largest_error_inside"] < 0.25
        assert result["largest_error_outside"] > 1
        x = np.linspace(-2 * experiment.HALF, 2 * experiment.HALF, 401, dtype=np.float32)
        errors = np.abs(result["fit"] - np.cos(x))
        inside = errors[np.abs(x) <= experiment.HALF].max()
        assert abs(inside - result["largest_error_inside"]) < 1e-3
