import flax.linen as nn
import matplotlib.pyplot as plt
import numpy as np
import pytest

from convnets.data.sources import ArraySource
from convnets.errors import UserError
from convnets.layers import Conv
from convnets.ops.image import Normalization
from convnets.visualize import (
    Strongest,
    Unit,
    compute_endpoints,
    cut_patches,
    deconvnet,
    find_strongest,
    plot_patches,
    project_patches,
)

from .networks import NORMALIZATION, classifier, random_images, random_variables

MODEL = classifier()
IMAGES = (random_images(50, 24) * 255).astype(np.uint8)
VARIABLES = random_variables(MODEL, IMAGES[:1] / np.float32(255))
SCALED = Normalization(*NORMALIZATION)
SOURCE = ArraySource(IMAGES, np.zeros(50, int))


class Watched(ArraySource):
    """A source that notes how much is read at a time."""

    def batch(self, indices, crops=None):
        read.append(len(indices))
        return super().batch(indices, crops)


read = []


@pytest.mark.parametrize("batch_size", [7, 64])
@pytest.mark.parametrize("endpoint", ["conv1", "conv2"])
def test_the_strongest_are_those_of_a_search_through_all(endpoint, batch_size):
    found = find_strongest(
        MODEL, VARIABLES, SOURCE, endpoint, [3, 0], count=4, batch_size=batch_size,
        normalization=SCALED,
    )  # fmt: skip
    maps = compute_endpoints(MODEL, VARIABLES, IMAGES, normalization=SCALED)[endpoint]
    for row, channel in enumerate([3, 0]):
        every = [
            (-value, example, *np.unravel_index(one[..., channel].argmax(), one.shape[:2]))
            for example, one in enumerate(maps)
            for value in [one[..., channel].max()]
        ]
        every.sort(key=lambda entry: entry[:2])
        expected = np.array(every[:4])
        np.testing.assert_allclose(found.values[row], -expected[:, 0], rtol=1e-5)
        np.testing.assert_array_equal(found.examples[row], expected[:, 1])
        np.testing.assert_array_equal(found.rows[row], expected[:, 2])
        np.testing.assert_array_equal(found.columns[row], expected[:, 3])


def test_the_source_is_read_once_by_the_batch():
    read.clear()
    source = Watched(IMAGES, np.zeros(50, int))
    found = find_strongest(MODEL, VARIABLES, source, "conv2", batch_size=16)
    assert sum(read) == 64  # the last batch is filled up
    assert max(read) == 16
    assert found.values.shape == (5, 9)
    few = find_strongest(MODEL, VARIABLES, ArraySource(IMAGES[:3], np.zeros(3, int)), "conv2")
    assert few.values.shape == (5, 3)


def test_a_patch_alone_gives_the_activation():
    """Away from the borders a unit needs its patch and nothing else."""
    found = find_strongest(MODEL, VARIABLES, SOURCE, "conv2", count=50)
    patches = cut_patches(MODEL, SOURCE, "conv2", found)
    assert patches.shape == (5, 50, 9, 9, 2)
    inner = (found.rows > 0) & (found.rows < 4) & (found.columns > 0) & (found.columns < 4)
    assert inner.sum() > 50
    for channel, rank in np.argwhere(inner)[::9]:
        # There it is what the unit at (1, 1) sees.
        picture = np.zeros((1, 24, 24, 2), np.uint8)
        picture[0, 3:12, 3:12] = patches[channel, rank]
        value = compute_endpoints(MODEL, VARIABLES, picture)["conv2"][0, 1, 1, channel]
        np.testing.assert_allclose(value, found.values[channel, rank], rtol=1e-4, atol=1e-5)


def test_projections_stand_where_their_patches_do():
    found = find_strongest(MODEL, VARIABLES, SOURCE, "conv2", [4, 1], count=3)
    projected = project_patches(MODEL, VARIABLES, SOURCE, "conv2", found)
    patches = cut_patches(MODEL, SOURCE, "conv2", found)
    assert projected.shape == patches.shape == (2, 3, 9, 9, 2)
    for row, channel in enumerate([4, 1]):
        for rank, example in enumerate(found.examples[row]):
            unit = Unit(channel, "conv2")
            whole = np.asarray(deconvnet(MODEL, VARIABLES, IMAGES[example : example + 1], unit))
            part = projected[row, rank]
            np.testing.assert_allclose(np.square(part).sum(), np.square(whole).sum(), rtol=1e-4)
            top, left = 4 * found.rows[row, rank] - 1, 4 * found.columns[row, rank] - 1
            np.testing.assert_allclose(part[4, 4], whole[0, top + 4, left + 4], atol=1e-5)
    figure = plot_patches(patches, projected)
    shown = figure.axes[0].images[0].get_array()
    assert shown.shape == (19, 7 * 10 - 1)
    np.testing.assert_allclose(shown[0, 40], patches[0, 0, 0, 0].mean() / 255, rtol=1e-5)
    plt.close(figure)


def test_beyond_the_border_a_patch_is_gray():
    places = [np.array([[x, y, z]]) for x, y, z in ((0, 1, 2), (0, 1, 4), (0, 4, 1))]
    strongest = Strongest(np.zeros(1, int), np.zeros((1, 3)), *places, "conv2")
    patches = cut_patches(MODEL, SOURCE, "conv2", strongest)[0]
    assert np.array_equal(patches[0][1:, 1:], IMAGES[0, :8, :8])
    assert (patches[0][0] == 128).all()
    assert (patches[0][:, 0] == 128).all()
    assert np.array_equal(patches[1], IMAGES[1, 3:12, 15:24])
    figure = plot_patches(np.stack([patches, patches]), title="units")
    assert figure.axes[0].get_title() == "units"
    assert figure.axes[0].images[0].get_array().shape == (19, 29)
    plt.close(figure)


def test_what_is_not_there_is_refused():
    with pytest.raises(UserError, match="unknown endpoint of images 'logits'"):
        find_strongest(MODEL, VARIABLES, SOURCE, "logits")
    with pytest.raises(UserError, match="channels 0 to 4, came"):
        find_strongest(MODEL, VARIABLES, SOURCE, "conv2", [5])
    with pytest.raises(UserError, match="at least 1 activation"):
        find_strongest(MODEL, VARIABLES, SOURCE, "conv2", count=0)
    found = find_strongest(MODEL, VARIABLES, SOURCE, "conv2")
    with pytest.raises(UserError, match="are of conv2, not of conv1"):
        cut_patches(MODEL, SOURCE, "conv1", found)
    with pytest.raises(UserError, match="of another source than this of 2"):
        cut_patches(MODEL, ArraySource(IMAGES[:2], np.zeros(2, int)), "conv2", found)
    with pytest.raises(UserError, match="such as dataset.test, came a ndarray"):
        find_strongest(MODEL, VARIABLES, IMAGES, "conv2")
    with pytest.raises(UserError, match="unknown endpoint of images 'conv3'"):
        cut_patches(MODEL, SOURCE, "conv3", found._replace(endpoint="conv3"))


def test_a_unit_that_sees_padding_alone_has_a_gray_patch():
    class Padded(nn.Module):
        @nn.compact
        def __call__(self, x, *, train):
            return {"conv": Conv(1, 1, padding=1, name="conv")(x)}

    source = ArraySource(np.full((1, 5, 6, 1), 200, np.uint8), np.zeros(1, int))
    variables = {"params": {"conv": {"kernel": -np.ones((1, 1, 1, 1)), "bias": np.zeros(1)}}}
    found = find_strongest(Padded(), variables, source, "conv")
    assert (found.rows, found.columns) == (0, 0)  # 0, where pixels are below it
    assert cut_patches(Padded(), source, "conv", found).ravel().tolist() == [128]
