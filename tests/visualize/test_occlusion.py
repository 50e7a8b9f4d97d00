import numpy as np
import pytest

from convnets.errors import UserError
from convnets.ops.image import Normalization
from convnets.visualize import Unit, compute_endpoints, occlude

from .networks import NORMALIZATION, classifier, random_images, random_variables

MODEL, IMAGES = classifier(), random_images()
VARIABLES = random_variables(MODEL, IMAGES)
SCALED = Normalization(*NORMALIZATION)


@pytest.mark.parametrize(("window", "stride"), [(4, 3), ((5, 3), (2, 3)), (11, 1)])
def test_it_is_the_mean_fall_over_every_square_that_covers_a_pixel(window, stride):
    channel = [2, 1]
    found = occlude(
        MODEL, VARIABLES, IMAGES, Unit(channel), window=window, stride=stride, fill=0.3,
        normalization=SCALED,
    )  # fmt: skip

    def score(images):
        maps = compute_endpoints(MODEL, VARIABLES, images, normalization=SCALED)
        return maps["logits"][[0, 1], channel]

    (height, width), (down, right) = np.broadcast_to(window, 2), np.broadcast_to(stride, 2)
    falls = [[[] for _ in range(11)] for _ in range(11)]
    for top in {*range(0, 12 - height, down), 11 - height}:
        for left in {*range(0, 12 - width, right), 11 - width}:
            covered = IMAGES.copy()
            covered[:, top : top + height, left : left + width] = 0.3
            fall = score(IMAGES) - score(covered)
            for row in range(top, top + height):
                for column in range(left, left + width):
                    falls[row][column].append(fall)
    expected = np.array([[np.mean(pixel, 0) for pixel in row] for row in falls])
    np.testing.assert_allclose(found, np.moveaxis(expected, 2, 0), atol=1e-5)
    assert np.abs(found).max() > 1e-3


def test_the_class_is_that_of_the_whole_image():
    maps = compute_endpoints(MODEL, VARIABLES, IMAGES)["logits"]
    options = dict(window=6, stride=5)
    np.testing.assert_array_equal(
        occlude(MODEL, VARIABLES, IMAGES, **options),
        occlude(MODEL, VARIABLES, IMAGES, Unit(maps.argmax(1)), **options),
    )


@pytest.mark.parametrize(("window", "stride"), [(12, 1), (4, 5), (4, 0)])
def test_a_window_that_does_not_fit_is_refused(window, stride):
    with pytest.raises(UserError, match="1 <= stride <= window <="):
        occlude(MODEL, VARIABLES, IMAGES, window=window, stride=stride)
