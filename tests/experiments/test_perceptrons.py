"""What is archived of the systems of single units bears out what is claimed of them."""

import json
from pathlib import Path

ARCHIVE = Path(__file__).parents[2] / "experiments" / "results" / "perceptrons.json"


def test_perceptrons_claim():
    archive = json.loads(ARCHIVE.read_text())
    assert archive["command"] == "python experiments/perceptrons.py"
    found = {}
    for line in archive["results"]:
        found.setdefault(line["part"], []).append(line)

    tables = {line["inputs"]: (line["functions"], line["right"]) for line in found["truth tables"]}
    assert tables == {n: (2 ** (2**n), 2 ** (2**n)) for n in (1, 2, 3, 4)}

    separable = [line for line in found["mistakes"] if line["separable"]]
    assert {line["features"] for line in separable} >= {256, 512, 1024, 2048, 4096}
    for line in separable:
        assert 0 < line["mistakes"] <= line["bound"]
        assert line["mistakes_in_the_last_epoch"] == 0
    for line in found["mistakes"]:
        if line not in separable:
            assert line["mistakes_in_the_last_epoch"] > 0

    for few, many in ((32, 256), (256, 4096)):
        worst, best = (
            [x["test_accuracy"] for x in found["accuracy"] if x["features"] == n]
            for n in (few, many)
        )
        assert max(worst) < min(best)
    (retina,) = [x["test_accuracy"] for x in found["accuracy"] if not x["features"]]
    assert all(x["test_accuracy"] > retina for x in found["accuracy"] if x["features"] == 4096)

    distances = {line["rate"]: line["distance"] for line in found["Adaline"]}
    assert distances["0.01"] > 5 * distances["0.001"] > 25 * distances["falling"]

    for inputs in (2, 3, 4):
        shares = {
            line["hidden"] // inputs: line["solved"] / line["starts"]
            for line in found["Madaline"]
            if line["inputs"] == inputs
        }
        assert 0.2 < shares[1] < shares[2]
        assert shares[2] > 0.8

    for line in found["linear"]:
        assert abs(line["excess"]) < 1e-4
        assert line["distance"] < 1e-4

    assert len(found["module"]) == 10
    for line in found["module"]:
        assert line["from_jax"] < 1e-13
        assert line["from_differences"] < 1e-7
        printed_wrong = line["module"] in ("perceptron loss", "Adaline")
        assert (line["as_printed"] is not None) == printed_wrong
        assert not printed_wrong or line["as_printed"] > 1
