"""L-BFGS and DeepFool, against the nearest points of a linear classifier's other classes."""

import numpy as np
import pytest

from convnets.adversarial import cross_nearest_boundary, minimal_change
from convnets.errors import UserError

from .victims import IMAGES, WEIGHTS, bent, labels_of, linear

LABELS = labels_of(linear)


def distances(images):
    """Of the linear classifier's images to the planes between their class and each other one."""
    logits = np.asarray(linear(images), np.float64)
    found = np.full(logits.shape, np.inf)
    for image, label in enumerate(LABELS):
        for other in set(range(3)) - {label}:
            apart = WEIGHTS[:, other] - WEIGHTS[:, label]
            gap = logits[image, label] - logits[image, other]
            found[image, other] = gap / np.linalg.norm(apart)
    return found


def lengths(changes):
    return np.sqrt(np.square(changes).sum((1, 2, 3)))


def test_deepfool_goes_to_the_nearest_plane():
    fooled = np.asarray(cross_nearest_boundary(linear, IMAGES, classes=3))
    assert (labels_of(linear, fooled) != LABELS).all()
    np.testing.assert_allclose(
        lengths(fooled - IMAGES), 1.02 * distances(IMAGES).min(1), rtol=1e-3, atol=1e-4
    )


def test_deepfool_fools_what_is_not_linear():
    fooled = np.asarray(cross_nearest_boundary(bent, IMAGES, classes=3))
    assert (labels_of(bent, fooled) != labels_of(bent)).all()
    assert fooled.min() >= 0
    assert fooled.max() <= 1


def test_lbfgs_finds_nearly_the_nearest_image_of_the_target():
    targets = distances(IMAGES).argmin(1)
    found = minimal_change(linear, IMAGES[:3], targets[:3])
    assert found.fooled.all()
    np.testing.assert_array_equal(labels_of(linear, found.images), targets[:3])
    nearest = distances(IMAGES).min(1)[:3]
    length = lengths(found.images - IMAGES[:3])
    assert (length >= nearest * 0.999).all()
    assert (length <= nearest * 1.3 + 1e-3).all()
    np.testing.assert_allclose(found.distortion, length / np.sqrt(12), rtol=1e-4)


def test_lbfgs_says_where_nothing_fools():
    def one_class(images):
        return linear(images) * 0 + np.float32([[5, 0, 0]])

    found = minimal_change(one_class, IMAGES[:1], [1], iterations=2)
    assert not found.fooled.any()
    np.testing.assert_array_equal(found.images, IMAGES[:1])
    with pytest.raises(UserError, match="a target for each"):
        minimal_change(linear, IMAGES, [1])
