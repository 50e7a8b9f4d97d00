import numpy as np
from sklearn import datasets

from convnets.data import load_dataset


def test_digits_look_like_mnist():
    dataset = load_dataset("digits")
    assert (len(dataset.train), dataset.validation, len(dataset.test)) == (1438, None, 359)
    assert dataset.image_shape == (28, 28, 1)
    assert dataset.class_names == tuple("0123456789")
    images = np.concatenate([dataset.train.images, dataset.test.images])[..., 0].astype(float)
    assert images.max() == 255
    mass = images.sum((1, 2))
    for axis in (1, 2):  # the center of mass in the middle, as MNIST's
        center = (images.sum(3 - axis) * np.arange(28)).sum(1) / mass
        assert np.abs(center - 14).max() <= 0.5
    assert 0.1 < dataset.normalization.mean[0] < 0.2  # MNIST: 0.131 and 0.308
    assert 0.25 < dataset.normalization.std[0] < 0.35


def test_the_split_is_fixed_stratified_and_complete():
    dataset, other = load_dataset("digits"), load_dataset("digits", seed=5)
    np.testing.assert_array_equal(dataset.test.images, other.test.images)
    counts = np.bincount(datasets.load_digits().target)
    in_test = np.bincount(dataset.test.labels)
    assert np.abs(in_test - 0.2 * counts).max() <= 1
    np.testing.assert_array_equal(in_test + np.bincount(dataset.train.labels), counts)
    seen = {image.tobytes() for image in dataset.train.images}
    assert not seen & {image.tobytes() for image in dataset.test.images}
