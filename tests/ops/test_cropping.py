"""Random parts of images: drawn as when images are decoded; painted over."""

from functools import partial

import jax
import numpy as np
import pytest
from PIL import Image

from convnets import data, ops
from convnets.ops.cropping import draw_part


@pytest.mark.parametrize(
    ("size", "options"),
    [
        ((200, 300), {"area": (0.08, 1.0), "aspect": (3 / 4, 4 / 3)}),
        ((28, 28), {"area": (0.3, 0.8), "aspect": (0.5, 1.5)}),
        ((10, 90), {"area": (0.6, 0.9), "aspect": (3 / 4, 4 / 3)}),  # nothing fits
    ],
)
def test_parts_are_those_of_the_host(size, options):
    """In float64, as there: each of its boxes, where any of ten attempts fits."""
    draws = np.random.default_rng(0).uniform(size=(500, 10, 4))
    with jax.enable_x64(True):
        draw = jax.jit(jax.vmap(lambda each: draw_part(each, *size, **options)))
        boxes, fits = jax.device_get(draw(draws))
    boxes = np.stack(boxes, 1)
    expected = np.array([data.random_resized_crop(each, *size, **options) for each in draws])
    assert fits.all() == (size != (10, 90))
    np.testing.assert_array_equal(boxes[fits], expected[fits])


@pytest.mark.parametrize("size", [(30, 40), (10, 90)])
def test_a_crop_is_a_part_of_the_host_resized_by_pillow(size):
    image = np.random.default_rng(0).uniform(size=(*size, 1)).astype(np.float32)
    area = (0.6, 0.9) if size == (10, 90) else (0.08, 1.0)
    crop = jax.jit(partial(ops.image.random_resized_crop, size=(12, 16), area=area))
    for key in jax.random.split(jax.random.key(0), 8):
        draws = np.float64(jax.random.uniform(key, (10, 4)))
        y0, x0, y1, x1 = data.random_resized_crop(draws, *size, area=area)
        part = Image.fromarray(np.ascontiguousarray(image[y0:y1, x0:x1, 0]))
        expected = np.asarray(part.resize((16, 12), Image.Resampling.BILINEAR))
        np.testing.assert_allclose(crop(key, image)[..., 0], expected, atol=1e-5)


def test_erasing_paints_rectangles_of_the_areas_and_aspects():
    image = np.full((40, 50, 2), 0.5, np.float32)
    keys = jax.random.split(jax.random.key(0), 400)
    erase = partial(ops.image.random_erasing, area=(0.1, 0.3), aspect=(0.5, 2.0), fill=0.25)
    erased = np.asarray(jax.jit(jax.vmap(erase, (0, None)))(keys, image)) == 0.25
    assert (erased[..., 0] == erased[..., 1]).all()
    painted = erased[..., 0][erased.any((1, 2, 3))]
    assert 160 < len(painted) < 240
    shares, ratios = [], []
    for each in painted:
        rows, columns = np.flatnonzero(each.any(1)), np.flatnonzero(each.any(0))
        box = each[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert box.all()
        shares.append(box.size / each.size)
        ratios.append(np.log(box.shape[1] / box.shape[0]))
    assert 0.09 < min(shares) < 0.12
    assert 0.28 < max(shares) < 0.31
    assert np.mean(shares) == pytest.approx(0.2, abs=0.02)
    assert -0.8 < min(ratios) < -0.5
    assert 0.5 < max(ratios) < 0.8
    assert abs(np.mean(ratios)) < 0.1
    assert painted.any((0, 2)).all()  # anywhere
    assert painted.any((0, 1)).all()


def test_erasing_fills_with_noise_or_not_at_all():
    image = np.full((20, 20, 3), 2.0, np.float32)
    erased = np.asarray(ops.image.random_erasing(jax.random.key(1), image, probability=1.0))
    noise = erased[erased != 2]
    assert noise.size > 3 * 0.02 * 400 * 0.5
    assert len(np.unique(noise)) > 0.9 * noise.size
    assert abs(noise.mean() - 0.5) < 0.1
    none = ops.image.random_erasing(jax.random.key(1), image, probability=0.0)
    np.testing.assert_array_equal(none, image)
    flat = np.full((2, 200, 1), 0.5, np.float32)  # where no square of half the area fits
    kept = ops.image.random_erasing(
        jax.random.key(1), flat, probability=1.0, area=(0.5, 0.5), aspect=(1, 1)
    )
    np.testing.assert_array_equal(kept, flat)


@pytest.mark.parametrize("size", [0, (4, -1)])
def test_a_size_without_pixels_is_refused(size):
    with pytest.raises(ValueError, match="size must be positive"):
        ops.image.random_resized_crop(jax.random.key(0), np.ones((4, 4, 1), np.float32), size=size)
