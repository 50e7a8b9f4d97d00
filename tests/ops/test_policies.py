"""The operations of RandAugment against Pillow, whose they are."""

from functools import partial

import jax
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from convnets import ops
from convnets.ops.policies import OPERATIONS, apply_operation

RNG = np.random.default_rng(0)
# Not all levels are there, and not equally often, else there were nothing to equalize.
IMAGE = np.uint8(255 * RNG.uniform(0.2, 0.9, size=(24, 30, 3)) ** 2)


@pytest.fixture(scope="module")
def apply():
    compiled = jax.jit(apply_operation, static_argnums=2)

    def run(name, strength, sign):
        image = np.float32(IMAGE) / 255
        return 255 * np.asarray(compiled(image, OPERATIONS.index(name), strength, sign))

    return run


def in_pillow(name, strength, sign):
    image, factor = Image.fromarray(IMAGE), 1 + 0.9 * strength * sign
    results = {
        "identity": lambda: image,
        "brightness": lambda: ImageEnhance.Brightness(image).enhance(factor),
        "contrast": lambda: ImageEnhance.Contrast(image).enhance(factor),
        "color": lambda: ImageEnhance.Color(image).enhance(factor),
        "sharpness": lambda: ImageEnhance.Sharpness(image).enhance(factor),
        "posterize": lambda: ImageOps.posterize(image, 8 - round(4 * strength)),
        "solarize": lambda: ImageOps.solarize(image, 255 * (1 - strength)),
        "autocontrast": lambda: ImageOps.autocontrast(image),
        "equalize": lambda: ImageOps.equalize(image),
    }
    return np.float32(results[name]())


@pytest.mark.parametrize("name", [OPERATIONS[0], *OPERATIONS[6:]])
def test_colors_are_those_of_pillow(name, apply):
    """Which rounds to bytes, and to a whole gray before it blends."""
    for strength, sign in ((0.3, 1.0), (0.3, -1.0), (0.8, 1.0)):
        found, expected = apply(name, strength, sign), in_pillow(name, strength, sign)
        exact = name in ("identity", "posterize", "solarize", "equalize")
        np.testing.assert_allclose(found, expected, atol=0.01 if exact else 2)
        assert name == "identity" or abs(expected - IMAGE).mean() > 0.4


@pytest.mark.parametrize("name", OPERATIONS[1:6])
def test_geometry_is_about_the_center(name, apply):
    """Read off images of coordinates: where a pixel of the result comes from."""
    places = np.stack(np.indices((25, 31)), -1).astype(np.float32)
    strength, sign = 0.2, -1.0
    run = jax.jit(apply_operation, static_argnums=2)
    found = np.asarray(run(places / 255, OPERATIONS.index(name), strength, sign)) * 255
    y, x = places[..., 0] - 12, places[..., 1] - 15
    angle = np.deg2rad(30 * strength * sign)
    expected = {
        "shear_x": (y, x + 0.3 * 0.2 * y),
        "shear_y": (y + 0.3 * 0.2 * x, x),
        "translate_x": (y, x + 150 / 331 * 31 * 0.2),
        "translate_y": (y + 150 / 331 * 25 * 0.2, x),
        "rotate": (np.cos(angle) * y + np.sin(angle) * x, np.cos(angle) * x - np.sin(angle) * y),
    }[name]
    inside = np.s_[7:-7, 7:-7]
    np.testing.assert_allclose(found[..., 0][inside], expected[0][inside] + 12, atol=1e-3)
    np.testing.assert_allclose(found[..., 1][inside], expected[1][inside] + 15, atol=1e-3)


def test_every_operation_is_drawn_with_both_signs():
    image = np.float32(IMAGE) / 255
    keys = jax.random.split(jax.random.key(0), 400)
    augment = partial(ops.image.random_augment, operations=1, magnitude=15)
    found = np.asarray(jax.jit(jax.vmap(augment, (0, None)))(keys, image))
    run = jax.jit(apply_operation, static_argnums=2)
    known = [[np.asarray(run(image, i, 0.5, s)) for s in (1.0, -1.0)] for i in range(14)]
    count = np.zeros((14, 2), int)
    for each in found:
        distances = [[abs(each - one).max() for one in pair] for pair in known]
        best = np.unravel_index(np.argmin(distances), (14, 2))
        assert distances[best[0]][best[1]] < 1e-4
        count[best] += 1
    assert count.sum(1).min() > 400 / 14 / 2
    assert count[1:10].min() >= 4  # those that go to either side
    twice = ops.image.random_augment(keys[0], image, operations=0)
    np.testing.assert_array_equal(twice, image)


def test_gray_images_are_augmented_too():
    gray = IMAGE[..., :1] / np.float32(255)
    run = jax.jit(apply_operation, static_argnums=2)
    assert run(gray, OPERATIONS.index("color"), 0.5, 1.0).shape == gray.shape
    np.testing.assert_allclose(run(gray, OPERATIONS.index("color"), 0.5, 1.0), gray, atol=1e-6)
