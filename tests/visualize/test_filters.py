"""Grids of images: where each stands, and how it is scaled."""

import numpy as np
import pytest

from convnets.errors import UserError
from convnets.models import create_model
from convnets.visualize import arrange_grid, first_filters, plot_grid, plot_maps

from .networks import random_images, random_variables

IMAGES = np.random.default_rng(0).normal(size=(5, 3, 4, 1)).astype(np.float32)


def test_every_image_stands_in_its_place():
    grid = arrange_grid(IMAGES, columns=2, gap=2)
    assert grid.shape == (3 * 3 + 2 * 2, 2 * 4 + 2, 1)
    for number, image in enumerate(IMAGES):
        top, left = 5 * (number // 2), 6 * (number % 2)
        found = grid[top : top + 3, left : left + 4]
        np.testing.assert_allclose(found, 0.5 + 0.5 * image / np.abs(image).max(), rtol=1e-5)
    assert (grid[3:5] == 1).all()
    assert (grid[10:, 6:] == 1).all()


def test_one_scale_for_all():
    grid = arrange_grid(IMAGES, columns=5, gap=0, scale="all")
    expected = 0.5 + 0.5 * IMAGES / np.abs(IMAGES).max()
    np.testing.assert_allclose(grid, np.concatenate(list(expected), 1), rtol=1e-5)


def test_images_as_they_are():
    grid = arrange_grid(IMAGES, columns=5, gap=0, scale="none")
    np.testing.assert_allclose(grid, np.concatenate(list(IMAGES.clip(0, 1)), 1), rtol=1e-5)


def test_an_image_of_zeros_is_gray():
    assert (arrange_grid(np.zeros((1, 2, 2, 3))) == 0.5).all()


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        (np.ones((2, 3, 3)), {}, r"expected images \[N, H, W, 1 or 3\]"),
        (np.ones((2, 3, 3, 2)), {}, "1 or 3"),
        (np.ones((0, 3, 3, 1)), {}, "1 or 3"),
        (IMAGES, {"scale": "some"}, "each, all or none"),
        (IMAGES, {"columns": 0}, "at least 1 column"),
    ],
)
def test_what_is_no_grid_is_refused(images, options, message):
    with pytest.raises(UserError, match=message):
        arrange_grid(images, **options)


def test_the_figure_shows_the_grid():
    import matplotlib.pyplot as plt

    figure = plot_grid(IMAGES, title="five", columns=3)
    (axes,) = figure.axes
    assert axes.get_title() == "five"
    shown = axes.images[0].get_array()
    np.testing.assert_allclose(shown, arrange_grid(IMAGES, columns=3)[..., 0])
    plt.close(figure)


def test_maps_stand_channel_by_channel():
    import matplotlib.pyplot as plt

    maps = IMAGES[0].repeat(3, 2) * np.array([1, -1, 2])
    figure = plot_maps(maps, title="conv1", columns=3)
    shown = figure.axes[0].images[0].get_array()
    np.testing.assert_allclose(shown[:, 5:9], 1 - shown[:, :4], rtol=1e-5)
    np.testing.assert_allclose(shown[:, 10:], shown[:, :4], rtol=1e-5)
    plt.close(figure)
    with pytest.raises(UserError, match="of one image"):
        plot_maps(IMAGES)


@pytest.mark.parametrize("name", ["lenet5", "cifar_resnet8"])
def test_the_first_filters_are_those_of_the_first_convolution(name):
    model, images = create_model(name), random_images(1, 16, 3)
    variables = random_variables(model, images)
    filters = first_filters(model, variables, (16, 16, 3))
    backbone = variables["params"]["backbone"]
    kernel = backbone["conv1"]["kernel"]
    np.testing.assert_array_equal(filters[2], kernel[..., 2])
    assert len(filters) == kernel.shape[3]


def test_a_network_without_convolution_has_none():
    model, images = create_model("linear"), random_images(1, 16, 3)
    with pytest.raises(UserError, match="no convolution in this Classifier"):
        first_filters(model, random_variables(model, images), (16, 16, 3))
