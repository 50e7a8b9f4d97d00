import numpy as np
import pytest

from convnets.errors import UserError
from convnets.ops.image import Normalization
from convnets.visualize import compute_endpoints, invert_features

from .networks import NORMALIZATION, classifier, random_images, random_variables

MODEL, IMAGES = classifier(widths=(8, 5)), random_images()
VARIABLES = random_variables(MODEL, IMAGES)
SCALED = Normalization(*NORMALIZATION)


def test_features_that_tell_the_image_give_it_back():
    found = invert_features(
        MODEL, VARIABLES, IMAGES, "conv1", smoothness=0, steps=400, normalization=SCALED
    )
    assert np.all(found.distances < 1e-3)
    noise = invert_features(MODEL, VARIABLES, IMAGES, "conv1", steps=0, normalization=SCALED)
    far = np.square(noise.images - IMAGES).mean((1, 2, 3))
    assert np.all(np.square(found.images - IMAGES).mean((1, 2, 3)) < 0.1 * far)
    features = [
        compute_endpoints(MODEL, VARIABLES, images, normalization=SCALED)["conv1"]
        for images in (IMAGES, noise.images)
    ]
    missed = np.square(features[1] - features[0]).sum((1, 2, 3))
    expected = missed / np.square(features[0]).sum((1, 2, 3))
    np.testing.assert_allclose(noise.distances, expected, rtol=1e-4)


def test_what_is_not_told_is_smooth():
    options = dict(steps=100, normalization=SCALED)
    rough = invert_features(MODEL, VARIABLES, IMAGES, "logits", smoothness=0, **options)
    smooth = invert_features(MODEL, VARIABLES, IMAGES, "logits", smoothness=1, **options)
    for found in (rough, smooth):
        assert found.images.min() >= 0
        assert found.images.max() <= 1
        assert np.all(found.distances < 0.1)
    change = [np.abs(np.diff(found.images, axis=2)).mean() for found in (rough, smooth)]
    assert change[1] < 0.2 * change[0]


def test_what_cannot_be_is_refused():
    with pytest.raises(UserError, match="unknown endpoint 'conv9'"):
        invert_features(MODEL, VARIABLES, IMAGES, "conv9")
    with pytest.raises(UserError, match="not below 0"):
        invert_features(MODEL, VARIABLES, IMAGES, "conv1", smoothness=-1)
