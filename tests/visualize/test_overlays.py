import matplotlib.pyplot as plt
import numpy as np
import pytest

from convnets.errors import UserError
from convnets.visualize import plot_attributions

from .networks import random_images


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_a_row_for_each_image_and_a_column_for_each_method(channels):
    images = random_images(2, 8, channels)
    signed, maps = images - 0.5, images[..., 0]
    figure = plot_attributions(images, {"gradient": signed, "map": maps}, names=["cat", "dog"])
    axes = np.array(figure.axes).reshape(2, 3)
    assert [one.get_title() for one in axes[0]] == ["cat", "gradient", "map"]
    assert [one.get_title() for one in axes[1]] == ["dog", "", ""]
    np.testing.assert_array_equal(axes[1, 2].images[1].get_array(), maps[1])
    shown = axes[0, 1].images[0].get_array()
    if channels != 2:
        expected = 0.5 + 0.5 * signed[0] / np.abs(signed[0]).max()
        np.testing.assert_allclose(shown, expected.squeeze(), rtol=1e-5)
    assert shown.shape[:2] == (8, 8)
    plt.close(figure)


def test_maps_of_another_size_are_refused():
    images = random_images(2, 8, 1)
    with pytest.raises(UserError, match=r"gradient \(2, 4, 4\) is not of the images"):
        plot_attributions(images, {"gradient": np.zeros((2, 4, 4))})
