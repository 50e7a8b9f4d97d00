import numpy as np
import pytest

from convnets.data import dataset_from_arrays, load_dataset
from convnets.errors import UserError


def images(*sources):
    return sorted(image.tobytes() for source in sources for image in source.images)


def test_the_validation_share_comes_from_train_only():
    whole, dataset, other = (
        load_dataset("digits", validation=share, seed=seed)
        for share, seed in ((0, 0), (0.1, 0), (0.1, 1))
    )
    assert whole.validation is None
    assert images(dataset.train, dataset.validation) == images(whole.train)
    np.testing.assert_array_equal(dataset.test.images, whole.test.images)
    assert images(dataset.validation) != images(other.validation)
    share = np.bincount(dataset.validation.labels) / np.bincount(whole.train.labels)
    assert np.abs(share - 0.1).max() < 0.01
    pixels = dataset.train.images / 255  # the statistics see the train split only
    assert dataset.normalization.mean == pytest.approx([pixels.mean()])
    assert dataset.normalization.std == pytest.approx([pixels.std()])


@pytest.mark.parametrize("share", [-0.1, 1, 1.5, float("nan")])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(UserError, match=r"share of the train split in \[0, 1\)"):
        load_dataset("digits", validation=share)


def test_arrays_are_brought_to_the_size_asked_for():
    dataset = load_dataset("digits", image_size=(32, 20), validation=0.1)
    assert {dataset.train.images.shape[1:], dataset.validation.images.shape[1:]} == {(32, 20, 1)}
    assert dataset.test.image_shape == dataset.image_shape == (32, 20, 1)
    assert dataset.notes == ("images of 28x28 are brought to 32x20",)
    assert load_dataset("digits", image_size=28).notes == ()


@pytest.mark.parametrize("size", [0, -1, (3,), (3, 4, 5), (3, 0), (3.5, 4), "32"])
def test_an_impossible_size_is_refused(size):
    with pytest.raises(UserError, match="one or two positive integers"):
        load_dataset("digits", image_size=size)


def test_arrays_of_ones_own_are_a_dataset():
    digits = load_dataset("digits")
    arrays = (digits.train.images, digits.train.labels, digits.test.images, digits.test.labels)
    dataset = dataset_from_arrays(*arrays)
    assert dataset.normalization == digits.normalization
    assert dataset.class_names == digits.class_names
    named = dataset_from_arrays(*arrays, class_names=list("abcdefghijk"), validation=0.1)
    assert named.num_classes == 11  # the eleventh has no example
    split = load_dataset("digits", validation=0.1)
    np.testing.assert_array_equal(named.validation.labels, split.validation.labels)
    with pytest.raises(UserError, match="the label 9, its 9 classes are numbered 0 to 8"):
        dataset_from_arrays(*arrays, class_names=list("abcdefghi"))
    with pytest.raises(UserError, match="x_test: expected uint8 images, came float64"):
        dataset_from_arrays(*arrays[:2], arrays[2] / 255, arrays[3])
