"""What is archived of an experiment that is not done is shown all the same."""

import json

import matplotlib.pyplot as plt
import pytest

from .claims import FOLDER, load

# Not case by case: of parts that are not alike, and run together.
WHOLE = {"billion_parameters", "scaling"}
ARCHIVES = {path.stem: path for path in sorted((FOLDER / "results").glob("*.json"))}


@pytest.mark.parametrize("name", sorted(ARCHIVES.keys() - WHOLE))
def test_one_case_makes_a_table_and_a_figure(name):
    archive = json.loads(ARCHIVES[name].read_text())
    experiment = load(archive["experiment"])
    for result in (archive["results"][0], archive["results"][-1]):
        part = {**archive, "results": [result]}
        assert experiment.table(part).startswith("| ")
        if hasattr(experiment, "figure"):
            plt.close(experiment.figure(part))
