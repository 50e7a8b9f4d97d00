"""Colors against torchvision's definitions, in NumPy and as it computed them."""

import colorsys
import itertools
import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convnets import ops
from convnets.ops import color


def draw(*shape):
    return np.random.default_rng(0).uniform(size=shape).astype(np.float32)


def blend(image, anchor, factor):
    return np.clip(factor * image + (1 - factor) * anchor, 0, 1)


def change(image, kind, amount):
    """The definitions of torchvision, in float64; the fourth is hue."""
    gray = image @ np.array([0.2989, 0.587, 0.114])[:, None]
    if kind < 3:
        return blend(image, (0, gray.mean(), gray)[kind], amount)
    result = np.empty_like(image)
    for place in np.ndindex(image.shape[:2]):
        h, s, v = colorsys.rgb_to_hsv(*image[place])
        result[place] = colorsys.hsv_to_rgb((h + amount) % 1, s, v)
    return result


def test_adjustments_are_those_of_torchvision(shared):
    with np.load(shared / "parity/ops/augment/affine_torchvision.npz") as file:
        arguments = json.loads(str(file["colour/args"]))
        image = file["colour/in/image"].transpose(1, 2, 0)
        names = ("brightness", "contrast", "saturation")
        for name, anchor in zip(names, jax.jit(color.anchors)(image)):
            found = color.blend(image, anchor, arguments[name])
            expected = file[f"colour/out/{name}"].transpose(1, 2, 0)
            np.testing.assert_allclose(found, expected, atol=1e-4, err_msg=name)
        found = jax.jit(ops.image.adjust_hue)(image, arguments["hue"])
        expected = file["colour/out/hue"].transpose(1, 2, 0)
        np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("turns", [0.0, 0.3, -0.45])
def test_hue_turns_as_in_the_standard_library(turns):
    image = draw(9, 8, 3)
    image[0, :6] = [[1, 0, 0], [1, 1, 0], [0, 0, 1], [1, 1, 1], [0, 0, 0], [0.5, 0.2, 0.2]]
    found = jax.jit(ops.image.adjust_hue)(image, turns)
    np.testing.assert_allclose(found, change(np.float64(image), 3, turns), atol=1e-5)


def test_jitter_makes_its_changes_in_every_order():
    """All four changes are known, and so large that clipping tells most of the 24 orders apart."""
    image, keys = draw(4, 5, 3), jax.random.split(jax.random.key(0), 100)
    ranges = {"brightness": 0.5, "contrast": 0.4, "saturation": 0.9, "hue": 0.3}
    jitter = jax.jit(jax.vmap(partial(ops.image.color_jitter, **ranges), (0, None)))
    found = np.asarray(jitter(keys, image))
    draws = np.float64(jax.vmap(lambda key: jax.random.uniform(key, (6,)))(keys))
    amounts = 1 + np.array([0.5, 0.4, 0.9]) * (2 * draws[:, :3] - 1)
    amounts = np.concatenate([amounts, 0.3 * (2 * draws[:, 5:] - 1)], 1)
    seen = set()
    for result, own in zip(found, amounts):
        fitting = []
        for order in itertools.permutations(range(4)):
            expected = np.float64(image)
            for kind in order:
                expected = change(expected, kind, own[kind])
            if np.allclose(result, expected, atol=1e-4):
                fitting.append(order)
        assert fitting
        seen |= {fitting[0]} if len(fitting) == 1 else set()
    assert len(seen) >= 16


def test_gray_images_change_in_brightness_and_contrast():
    image, key = draw(4, 5, 1), jax.random.key(1)
    found = ops.image.color_jitter(key, image, saturation=0, hue=0, contrast=0)
    factor = (found / image)[image < 0.5]
    np.testing.assert_allclose(factor, np.full_like(factor, factor[0]), rtol=1e-5)
    assert 0.6 <= factor[0] <= 1.4
    found = np.asarray(ops.image.color_jitter(key, image, saturation=0, hue=0, brightness=0))
    assert found.std() != pytest.approx(image.std(), rel=1e-3)


def test_color_noise_is_along_the_principal_components():
    keys = jax.random.split(jax.random.key(0), 4000)
    image = np.full((2, 2, 3), 0.5, np.float32)
    noisy = jax.jit(jax.vmap(partial(ops.image.pca_noise, std=0.1), (0, None)))(keys, image)
    shifts = np.asarray(noisy)[:, 0, 0] - 0.5
    normal = np.asarray(jax.vmap(lambda key: jax.random.normal(key, (3,)))(keys))
    vectors, values = np.array(color.EIGENVECTORS), np.array(color.EIGENVALUES)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(3), atol=2e-3)
    np.testing.assert_allclose(shifts, 0.1 * normal @ (vectors * values).T, atol=1e-6)
    expected = (vectors * (0.1 * values) ** 2) @ vectors.T
    np.testing.assert_allclose(np.cov(shifts.T), expected, rtol=0.1)
    assert (np.asarray(noisy) == np.asarray(noisy)[:, :1, :1]).all()
    own = ops.image.pca_noise(
        keys[0], jnp.asarray(image), std=0.2, eigenvalues=(1, 0, 0), eigenvectors=np.eye(3)
    )
    assert (np.asarray(own)[..., 1:] == 0.5).all()
    assert (np.asarray(own)[..., 0] != 0.5).all()
