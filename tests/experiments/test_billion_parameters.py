"""What the archive of the billion parameters bears out."""

import pytest

import convnets

from . import claims


def test_a_billion_parameters_are_updated_within_24_gib():
    archive, _ = claims.read("billion_parameters")
    found = {line["network"]: line for line in archive["results"]}["billion"]
    assert found["parameters"] > 1.0e9
    eighth = 4 * found["parameters"] / 8
    assert found["devices"] == 8
    assert eighth <= found["bytes_per_device"] < 1.001 * eighth
    assert 4 * found["parameters"] < found["peak_bytes"] < 24 * 2**30
    assert found["after"]["loss"] < found["before"]["loss"]


def test_eight_devices_make_the_update_of_one_and_photos_are_explained():
    archive, _ = claims.read("billion_parameters")
    found = {line["network"]: line for line in archive["results"]}
    assert found["compared"]["difference"] < 1e-5
    trained = found["trained"]
    assert trained["before"]["unexplained1"] > 0.9
    assert trained["after"]["unexplained1"] < 0.1
    assert trained["after"]["examples"] == trained["photos"] // 9


def test_the_photos_are_named_and_counted():
    archive, experiment = claims.read("billion_parameters")
    trained = {line["network"]: line for line in archive["results"]}["trained"]
    assert archive["settings"]["photos"] == experiment.SAMPLE
    assert trained["photos"] + trained["after"]["examples"] == 1000
    assert "900 of 1,000 photos" in experiment.table(archive)
    assert f"The photos are {experiment.SAMPLE}." in experiment.table(archive)


def test_photos_are_those_of_a_folder_or_the_sample(tmp_path, monkeypatch):
    experiment = claims.load("billion_parameters")
    sample = tmp_path / "data" / experiment.SAMPLE / "images"
    own = tmp_path / "own"
    for folder in (sample, own):
        folder.mkdir(parents=True)
        for number in range(20):
            (folder / f"{number:02}.jpg").touch()
    monkeypatch.setenv("CONVNETS_SHARED", str(tmp_path))
    few = {"training_batch_size": 2}
    found = experiment.find_photos(experiment.Config(**few))
    assert found == [sample / f"{number:02}.jpg" for number in range(20)]
    assert experiment.find_photos(experiment.Config(photos=str(own), **few))[0] == own / "00.jpg"
    for needed in ({"training_batch_size": 3}, {"batch_size": 21, **few}):
        with pytest.raises(convnets.UserError, match="holds 20 photos.*--photos DIR"):
            experiment.find_photos(experiment.Config(**needed))
