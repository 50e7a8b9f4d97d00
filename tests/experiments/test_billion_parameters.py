"""What the archive of the billion parameters bears out."""

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
