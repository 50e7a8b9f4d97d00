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
    found = experiment.tell(np.stack([noise, deceptive, backward], 1), faces, ~held_out, held_out)
    assert found == {
        "unit": 2, "sign": -1, "units": 3, "train_accuracy": 1.0, "test_accuracy": 1.0,
    }  # fmt: skip
    slow = experiment.tell(noise[:, None], faces, ~held_out, held_out)
    seen, kinds = noise[:20], faces[:20]
    best = max(
        max(x, 1 - x)
        for x in ((np.mean(seen[kinds] > t) + np.mean(seen[~kinds] <= t)) / 2 for t in seen)
    )
    assert slow["train_accuracy"] == round(best, 4)


def test_pictures_of_one_person_are_held_out_together():
    experiment = load("face_neuron")
    faces, numbers = np.arange(400) < 200, np.tile(np.arange(200), 2)
    splits = [experiment.split(faces, numbers, seed) for seed in range(4)]
    assert (sum(held_out.astype(int) for _, held_out in splits) == 1).all()
    for seen, held_out in splits:
        assert seen.sum() >= 200
        assert not (seen & held_out).any()
        for kind in (faces, ~faces):
            apart = numbers[kind & held_out]
            distances = np.abs(numbers[kind & seen][:, None] - apart[None])
            assert len(apart) == 50
            assert distances.min() == experiment.GAP + 1


def test_claim():
    archive, experiment = read("face_neuron")
    assert archive["command"] == "python experiments/face_neuron.py"
    assert [line["seed"] for line in archive["results"]] == [0, 1, 2, 3]
    found = {name: experiment.accuracies(archive, name) for name in experiment.NAMES}
    means = {name: statistics.mean(x) for name, x in found.items()}
    assert means["learned"] >= means["random"] + 8
    assert all(x > y + 5 for x, y in zip(found["learned"], found["random"]))
    for name in ("normalized", "local", "pixel"):
        assert means["learned"] > means[name]
