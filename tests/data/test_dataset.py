import dataclasses

import numpy as np
import pytest

from convnets.data import ArraySource, Dataset, channel_statistics
from convnets.data.dataset import SAMPLE
from convnets.errors import UserError

from .records import make_examples


def test_statistics_are_those_of_every_pixel():
    images, labels = make_examples(700, shape=(3, 4, 3))
    images[..., 1] = images[..., 1] // 2 + 100
    images[..., 2] = 7
    result = channel_statistics(ArraySource(images, labels))
    pixels = images.reshape(-1, 3) / 255
    np.testing.assert_allclose(result.mean, pixels.mean(0), rtol=1e-12)
    np.testing.assert_allclose(result.std, [*pixels.std(0)[:2], 1 / 255], rtol=1e-9)


def test_a_source_on_disk_gives_a_sample():
    images = np.random.default_rng(0).integers(0, 256, (2 * SAMPLE, 2, 2, 1), np.uint8)
    source = ArraySource(images, np.zeros(len(images), int))
    asked = []

    class Lazy:
        image_shape = source.image_shape

        def __len__(self):
            return len(source)

        def batch(self, indices):
            asked.append(len(np.unique(indices)))
            return source.batch(indices)

    result, again = channel_statistics(Lazy()), channel_statistics(Lazy())
    assert result == again
    assert asked == [SAMPLE, SAMPLE]
    np.testing.assert_allclose(result.mean, channel_statistics(source).mean, atol=0.01)


def test_a_dataset_is_frozen_and_knows_its_shape():
    source = ArraySource(*make_examples(6))
    dataset = Dataset("x", source, None, source, ("a", "b", "c"))
    assert dataset.num_classes == 3
    assert dataset.image_shape == (6, 5, 1)
    assert "ArraySource(6 images of 6x5x1)" in repr(dataset)
    with pytest.raises(dataclasses.FrozenInstanceError):
        dataset.name = "y"
    with pytest.raises(UserError, match="test of x has the label 2, its 2 classes"):
        Dataset("x", source.select([0, 1]), None, source, ("a", "b"))
    small = ArraySource(np.zeros((1, 2, 2, 1), np.uint8), np.array([0]))
    with pytest.raises(UserError, match=r"\(6, 5, 1\) in train, \(2, 2, 1\) in test"):
        Dataset("x", source, None, small, ("a", "b", "c"))
    with pytest.raises(TypeError, match="test is a Source, not NoneType"):
        Dataset("x", source, None, None, ("a", "b", "c"))
