import numpy as np
import pytest

from convnets.data import ArraySource, in_memory
from convnets.data.sources import decode_in_threads

from .records import make_examples


def test_array_source_gives_examples_and_batches():
    images, labels = make_examples(7)
    source = ArraySource(images, labels)
    assert len(source) == 7
    assert source.image_shape == (6, 5, 1)
    batch = source.batch(np.array([5, 0, 5]))
    np.testing.assert_array_equal(batch["image"], images[[5, 0, 5]])
    assert batch["image"].dtype == np.uint8
    assert batch["label"].dtype == np.int32
    assert batch["label"].tolist() == [2, 0, 2]
    example = source[-1]
    np.testing.assert_array_equal(example["image"], images[6])
    assert example["label"] == 0
    assert example["label"].shape == ()
    assert [int(each["label"]) for each in source] == labels.tolist()  # ends by itself
    np.testing.assert_array_equal(source.select([3, 1]).images, images[[3, 1]])
    assert in_memory(source) is source
    assert repr(source) == "ArraySource(7 images of 6x5x1)"


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (np.zeros((2, 4, 4, 1), np.float32), [0, 1]),
        (np.zeros((2, 4, 4), np.uint8), [0, 1]),
        (np.zeros((2, 4, 4, 1), np.uint8), [0, 1, 0]),
        (np.zeros((2, 4, 4, 1), np.uint8), [0.0, 1.0]),
    ],
)
def test_array_source_refuses_other_arrays(images, labels):
    with pytest.raises(TypeError, match=r"uint8 \[N, H, W, C\]|integers \[2\]"):
        ArraySource(images, np.array(labels))


@pytest.mark.parametrize("count", [1, 5, 100])
def test_threads_decode_every_image_once_and_in_order(count):
    images = decode_in_threads(lambda index: np.full((2, 1, 1), index, np.uint8), count, (2, 1, 1))
    np.testing.assert_array_equal(images[:, 0, 0, 0], np.arange(count))


def test_an_error_in_a_decoding_thread_is_raised():
    def decode(index):
        raise OSError(f"image {index}")

    with pytest.raises(OSError, match="image"):
        decode_in_threads(decode, 20, (2, 1, 1))
