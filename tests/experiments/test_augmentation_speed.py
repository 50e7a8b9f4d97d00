"""The speed of each augmentation: what is archived is of all that there are."""

import pytest

from .claims import load, read_part

FORMATS = {"x".join(map(str, shape)): shape for shape, _ in load("augmentation_speed").SHAPES}


@pytest.mark.parametrize("image", FORMATS)
def test_every_augmentation_is_timed_in_every_turn(image):
    archive, experiment = read_part("augmentation_speed")
    assert archive["command"] == "python experiments/augmentation_speed.py"
    found = [x["images_per_second"] for x in archive["results"] if x["image"] == image]
    if not found:
        pytest.skip(f"{image} is not archived")
    (rates,) = found
    assert rates.keys() == experiment.programs(FORMATS[image][2], False).keys()
    for turns in rates.values():
        assert len(turns) == archive["settings"]["repetitions"] >= 5
        assert min(turns) > 0
