"""Parts of images in another size against Pillow; the width of digits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from convnets import UserError, ops

BOXES = [(0, 0, 20, 30), (3, 4, 9, 27), (5, 6, 6, 7), (10, 2, 20, 12)]


def draw(*shape):
    return np.random.default_rng(0).uniform(size=shape).astype(np.float32)


def in_pillow(plane, size):
    return np.asarray(Image.fromarray(plane).resize(size[::-1], Image.Resampling.BILINEAR))


@pytest.mark.parametrize("size", [(8, 8), (32, 24), (20, 9)])
def test_a_part_is_resized_as_by_pillow(size):
    """Larger, smaller, and both at once; the device knows of the box as it runs only."""
    image = draw(20, 30, 2)
    resize = jax.jit(lambda image, box: ops.image.resize_part(image, box, *size))
    for y0, x0, y1, x1 in BOXES:
        found = resize(image, jnp.array([y0, x0, y1, x1]))
        for channel in range(2):
            part = np.ascontiguousarray(image[y0:y1, x0:x1, channel])
            np.testing.assert_allclose(found[..., channel], in_pillow(part, size), atol=1e-5)


@pytest.mark.parametrize("width", [1, 4, 9, 10, 15])
def test_a_digit_is_brought_to_a_width(width):
    image = np.zeros((12, 15, 2), np.float32)
    image[2:10, 3:8] = draw(8, 5, 2)
    image[4, 3:8] += 0.01  # every column has something in it
    image[6, 5] = 0  # and a hole inside of it is no end
    found = np.asarray(jax.jit(ops.image.normalize_width, static_argnums=1)(image, width))
    expected, left = np.zeros_like(image), (15 - width) // 2
    for channel in range(2):
        part = np.ascontiguousarray(image[:, 3:8, channel])
        expected[:, left : left + width, channel] = in_pillow(part, (12, width))
    np.testing.assert_allclose(found, np.clip(expected, 0, 1), atol=1e-5)


def test_the_width_is_of_what_is_above_the_threshold():
    image = np.zeros((3, 8, 1), np.float32)
    image[1, 1], image[1, 4:6] = 0.2, 0.9
    found = np.asarray(ops.image.normalize_width(image, 4, threshold=0.5))[..., 0]
    assert (found[1] > 0).tolist() == [False, False, True, True, True, True, False, False]
    batch = np.stack([image, np.zeros_like(image), 0.1 * np.ones_like(image)])
    several = jax.vmap(lambda x: ops.image.normalize_width(x, 4, threshold=0.5))(batch)
    np.testing.assert_allclose(several[0, ..., 0], found, atol=1e-6)
    np.testing.assert_array_equal(several[1:], batch[1:])  # where nothing is, nothing changes


def test_what_has_no_such_width_is_refused():
    with pytest.raises(UserError, match="from 1 to 8 pixels is possible, came 9"):
        ops.image.normalize_width(np.zeros((3, 8, 1), np.float32), 9)
    with pytest.raises(TypeError, match="expected floats, came uint8"):
        ops.image.normalize_width(np.zeros((3, 8, 1), np.uint8), 4)
