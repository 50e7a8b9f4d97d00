"""Views of images over which predictions are averaged."""

import numpy as np
import pytest

from convnets import UserError, ops

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 9, 12, 3), np.uint8)


def test_flip_views_are_the_image_and_its_mirror_image():
    views = ops.image.flip_views(IMAGES)
    assert views.dtype == np.uint8
    np.testing.assert_array_equal(views, [IMAGES, np.flip(IMAGES, 2)])


@pytest.mark.parametrize("pixels", [0, 1, 3])
def test_shift_views_repeat_the_border(pixels):
    views = np.asarray(ops.image.shift_views(IMAGES, pixels))
    assert views.dtype == np.uint8
    rows, columns = np.arange(9), np.arange(12)
    moves = ((0, 0), (pixels, 0), (-pixels, 0), (0, pixels), (0, -pixels))
    for view, (down, right) in zip(views, moves, strict=True):
        y, x = np.clip(rows + down, 0, 8), np.clip(columns + right, 0, 11)
        np.testing.assert_array_equal(view, IMAGES[:, y][:, :, x])
    with pytest.raises(ValueError, match="pixels must not be negative"):
        ops.image.shift_views(IMAGES, -1)


@pytest.mark.parametrize("size", [6, (5, 12), (9, 12)])
def test_ten_crop_is_corners_and_center_and_their_mirror_images(size):
    views = np.asarray(ops.image.ten_crop(IMAGES, size))
    h, w = (size, size) if isinstance(size, int) else size
    middle = slice((9 - h) // 2, (9 - h) // 2 + h), slice((12 - w) // 2, (12 - w) // 2 + w)
    parts = [
        IMAGES[:, :h, :w],
        IMAGES[:, :h, -w:],
        IMAGES[:, -h:, :w],
        IMAGES[:, -h:, -w:],
        IMAGES[:, *middle],
    ]
    np.testing.assert_array_equal(views, [*parts, *(np.flip(part, 2) for part in parts)])


@pytest.mark.parametrize("size", [10, (9, 13), 0])
def test_parts_that_do_not_fit_are_refused(size):
    with pytest.raises(UserError, match="do not fit into images of 9x12"):
        ops.image.ten_crop(IMAGES, size)


@pytest.mark.parametrize(
    "views",
    [ops.image.flip_views, ops.image.shift_views, lambda images: ops.image.ten_crop(images, 2)],
)
def test_one_image_alone_is_refused(views):
    with pytest.raises(UserError, match=r"images \[B, H, W, C\], came shape \(9, 12, 3\)"):
        views(IMAGES[0])
