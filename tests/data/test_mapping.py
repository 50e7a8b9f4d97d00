"""Images through a function, and patches of images, as sources like any other."""

import numpy as np
import pytest

from convnets import data
from convnets.errors import UserError


@pytest.fixture(scope="module")
def digits():
    return data.load_dataset("digits", validation=0.1)


def test_mapped_images_are_those_of_the_function(digits):
    mapped = data.map_images(digits, lambda images: 2.0 * images[:, ::2, ::2])
    assert mapped.image_shape == (14, 14, 1)
    indices = [5, 0, 7]
    before, after = (x.validation.batch(indices) for x in (digits, mapped))
    assert np.array_equal(after["image"], 2.0 * before["image"][:, ::2, ::2])
    assert np.array_equal(after["label"], before["label"])
    assert after["image"].dtype == np.float32
    assert mapped.normalization.mean == (0.0,)
    chosen = mapped.train.select([3, 1])
    assert np.array_equal(chosen[1]["image"], mapped.train[1]["image"])
    assert np.array_equal(chosen.labels, digits.train.labels[[3, 1]])


def test_vectors_become_images_of_one_pixel(digits):
    mapped = data.map_images(digits, lambda images: images.reshape(len(images), -1))
    assert mapped.image_shape == (1, 1, 784)
    assert np.array_equal(mapped.test[4]["image"].ravel(), digits.test.images[4].ravel())
    with pytest.raises(UserError, match=r"expected images .* came \(\)"):
        data.map_images(digits, lambda images: images.mean((1, 2, 3)))


def test_patches_are_parts_of_their_images(digits):
    patches = data.sample_patches(digits, 6, 4, seed=2)
    assert len(patches.train) == 4 * len(digits.train)
    assert np.array_equal(patches.train.labels, np.repeat(digits.train.labels, 4))
    indices = np.array([9, 4, 2, 803])
    found = patches.train.batch(indices)
    for index, patch in zip(indices, found["image"]):
        row, column = patches.train.corners[index]
        image = digits.train.images[index // 4]
        assert np.array_equal(patch, image[row : row + 6, column : column + 6])
    assert np.array_equal(patches.train.select(indices)[1]["image"], found["image"][1])
    assert np.array_equal(patches.train.select(indices).select([2]).labels, found["label"][2:3])


def test_patches_lie_everywhere_and_are_drawn_by_the_seed(digits):
    first, again, other = (
        data.sample_patches(digits, 20, seed=seed).train.corners for seed in (0, 0, 1)
    )
    assert np.array_equal(first, again)
    assert (first != other).any()
    for axis in (0, 1):
        counts = np.bincount(first[:, axis], minlength=9)
        assert len(counts) == 9
        assert (np.abs(counts - len(first) / 9) < 5 * np.sqrt(len(first) / 9)).all()


def test_patches_of_mapped_images(digits):
    mapped = data.map_images(digits, lambda images: images / 255.0)
    patches = data.sample_patches(mapped, 28)
    assert np.array_equal(patches.test[3]["image"], mapped.test[3]["image"])


@pytest.mark.parametrize(("size", "count"), [(0, 1), (29, 1), (5, 0), (5.5, 1), ("5", 1)])
def test_patches_that_cannot_be_are_refused(digits, size, count):
    with pytest.raises(UserError, match="patches of 1 to 28 pixels"):
        data.sample_patches(digits, size, count)


def test_floats_are_not_made_bytes(digits):
    mapped = data.map_images(digits, lambda images: images / 255.0)
    with pytest.raises(UserError, match="map them last"):
        data.hide_labels(mapped, 3)


def test_patches_have_no_crop(digits):
    with pytest.raises(UserError, match="leave out the crop"):
        data.sample_patches(digits, 5).train.batch([0], [None])
