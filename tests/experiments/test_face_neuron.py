"""The face unit: how units are chosen and measured, and what is archived."""

import statistics

import numpy as np

from .claims import load, read


def test_a_unit_is_chosen_and_its_threshold_set_on_what_is_not_held_out():
    experiment = load("face_neuron")
    faces = np.arange(40) % 2 == 0
    held_out = np.arange(40) >= 20
    noise = np.random.default_rng(0).normal(size=40)
    backward = np.where(faces, -1.0, 1.0) + np.linspace(0, 0.1, 40)
    deceptive = np.where(held_out, np.where(faces, 1.0, 0.0), noise)  # tells held-out ones only
    found = experiment.tell(np.stack([noise, deceptive, backward], 1), faces, held_out)
    assert found == {
        "unit": 2, "sign": -1, "units": 3, "train_accuracy": 1.0, "test_accuracy": 1.0,
    }  # fmt: skip
    slow = experiment.tell(noise[:, None], faces, held_out)
    seen, kinds = noise[:20], faces[:20]
    best = max(
        max(x, 1 - x)
        for x in ((np.mean(seen[kinds] > t) + np.mean(seen[~kinds] <= t)) / 2 for t in seen)
    )
    assert slow["train_accuracy"] == round(best, 4)


def test_pictures_of_one_person_are_held_out_together():
    experiment = load("face_neuron")
    faces, numbers = np.arange(200) < 100, np.tile(np.arange(100), 2)
    apart = experiment.hold_out(faces, numbers, 0)
    for kind in (True, False):
        rows = {number // 10 for number in numbers[(faces == kind) & apart]}
        assert len(rows) == 2
        assert all(apart[(faces == kind) & (numbers // 10 == row)].all() for row in rows)


def test_claim():
    archive, experiment = read("face_neuron")
    assert archive["command"] == "python experiments/face_neuron.py"
    assert [line["seed"] for line in archive["results"]] == [0, 1, 2]
    found = {name: experiment.accuracies(archive, name) for name in experiment.NAMES}
    means = {name: statistics.mean(x) for name, x in found.items()}
    assert means["learned"] >= means["random"] + 8
    for name in ("normalized", "local", "pixel"):
        assert means["learned"] > means[name]
