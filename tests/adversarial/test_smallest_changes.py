"""L-BFGS and DeepFool, against the nearest points of a linear classifier's other classes."""

import numpy as np
import pytest

from convnets.adversarial import deepfool, lbfgs, lbfgs_attack
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
    fooled = np.asarray(deepfool(linear, IMAGES, classes=3))
    assert (labels_of(linear, fooled) != LABELS).all()
    np.testing.assert_allclose(
        lengths(fooled - IMAGES), 1.02 * distances(IMAGES).min(1), rtol=1e-3, atol=1e-4
    )


def test_deepfool_fools_what_is_not_linear():
    fooled = np.asarray(deepfool(bent, IMAGES, classes=3))
    assert (labels_of(bent, fooled) != labels_of(bent)).all()
    assert fooled.min() >= 0
    assert fooled.max() <= 1


def test_lbfgs_finds_nearly_the_nearest_image_of_the_target():
    targets = distances(IMAGES).argmin(1)
    found = lbfgs_attack(linear, IMAGES[:3], targets[:3])
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

    found = lbfgs_attack(one_class, IMAGES[:1], [1], iterations=2)
    assert not found.fooled.any()
    np.testing.assert_array_equal(found.images, IMAGES[:1])


def test_lbfgs_returns_what_fools_at_no_weight_alone(monkeypatch):
    """Where only the loss by itself leads to the target, that image is the answer."""

    def minimize(objective, clean, target, weight, iterations):
        return (clean / 2, True) if weight == 0 else (clean, False)

    monkeypatch.setattr(lbfgs, "_minimize", minimize)
    target = (labels_of(linear, IMAGES[:1]) + 1) % 3
    found = lbfgs_attack(linear, IMAGES[:1], target)
    assert found.fooled.all()
    np.testing.assert_allclose(found.images, IMAGES[:1] / 2)


@pytest.mark.parametrize("steepness", [1.0, 100.0, 10_000.0])
def test_changes_are_small_next_to_the_boundary_too(steepness):
    """Of two pixels the larger one is the class: half of their difference each is the least."""

    def classify(images):
        return steepness * images.reshape(len(images), -1)

    image = np.float32([0.51, 0.5]).reshape(1, 1, 2, 1)
    least = 0.005  # of each pixel
    found = lbfgs_attack(classify, image, [1])
    assert found.fooled.all()
    assert least * 0.99 < found.distortion[0] < least * 1.1
    crossed = np.asarray(deepfool(classify, image)) - image
    assert np.abs(crossed).max() < least * 1.05
    np.testing.assert_array_equal(lbfgs_attack(classify, image, [0]).images, image)
    assert lbfgs_attack(classify, image, [0]).fooled.all()


def test_lbfgs_wants_a_target_for_each():
    with pytest.raises(UserError, match="a target for each"):
        lbfgs_attack(linear, IMAGES, [1])
    with pytest.raises(UserError, match=r"classes 0 to 2, not \[99\]"):
        lbfgs_attack(linear, IMAGES[:1], [99])
    with pytest.raises(UserError, match="no boundary"):
        deepfool(lambda images: linear(images)[:, :1], IMAGES)
