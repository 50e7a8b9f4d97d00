"""Energies around a spiral: what is archived bears out what is claimed."""

from .claims import read


def test_claim():
    archive, experiment = read("energy_landscape")
    others = {name: [] for name in experiment.LEARNERS}
    for line in archive["results"]:
        others[line["held_back_by"]].append(line["energy_of_others"])
        assert line["energy_of_samples"] < line["energy_of_others"] / 20
        assert line["told_apart"] > 0.95
    for name in experiment.LEARNERS.keys() - {"nothing"}:
        assert min(others[name]) > 20 * max(others["nothing"])
