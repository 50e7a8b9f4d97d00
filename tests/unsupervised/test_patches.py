"""Patches: blank ones are left out, contrast is taken away; filters for patches as they are."""

import dataclasses

import numpy as np
import pytest

import convnets
from convnets.unsupervised import fold_whitening, whiten_patches

RNG = np.random.default_rng(0)
SMOOTH = RNG.normal(size=(400, 3)) @ RNG.normal(size=(3, 12)) + RNG.normal(size=(400, 12))
IMAGES = (128 + 15 * SMOOTH).clip(0, 255).astype(np.uint8).reshape(400, 2, 3, 2)
IMAGES[::4] = 77  # blank, but for a little noise
IMAGES[::8, 0, 0, 0] += 3


def make_dataset(images):
    labels = np.arange(len(images)) % 2
    dataset = convnets.dataset_from_arrays(images, labels, images[:40], labels[:40])
    return dataclasses.replace(dataset, normalization=convnets.Normalization())


def test_patches_that_show_something_have_one_contrast_and_no_neighborhood():
    white = whiten_patches(make_dataset(IMAGES), epsilon=1e-3)[0]
    assert (len(white.train), len(white.test)) == (300, 30)
    x = IMAGES[np.arange(400) % 4 > 0].reshape(300, 12).astype(float)
    x = (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)
    variances, directions = np.linalg.eigh(np.cov(x.T, bias=True))
    expected = (x - x.mean(0)) @ (directions / np.sqrt(variances.clip(0) + 1e-3)) @ directions.T
    found = white.train.batch(np.arange(300))["image"]
    assert found.shape == (300, 2, 3, 2)
    np.testing.assert_allclose(found.reshape(300, 12), expected, atol=1e-3)
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-3)
    spread = np.linalg.eigvalsh(np.cov(found.reshape(300, 12).T, bias=True))
    np.testing.assert_allclose(spread[1:], 1, atol=0.02)  # the first is the mean, taken away
    np.testing.assert_array_equal(white.test.labels, np.arange(40)[np.arange(40) % 4 > 0] % 2)


def test_a_folded_layer_makes_of_patches_what_the_learned_one_made_of_white_ones():
    _, whitening = whiten_patches(make_dataset(IMAGES), epsilon=0.1)
    layer = {"kernel": RNG.normal(size=(12, 5)), "bias": RNG.normal(size=5)}
    x = RNG.normal(size=(7, 12))
    x = (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)
    expected = whitening.apply(x) @ layer["kernel"] + layer["bias"]
    folded = fold_whitening(layer, whitening)
    brighter = x + RNG.normal(size=(7, 1))
    np.testing.assert_allclose(brighter @ folded["kernel"] + folded["bias"], expected, atol=1e-5)
    alone = fold_whitening({"kernel": layer["kernel"]}, whitening)
    np.testing.assert_allclose(alone["bias"], folded["bias"] - layer["bias"], atol=1e-6)


def test_blank_patches_are_refused():
    with pytest.raises(convnets.UserError, match="all blank"):
        whiten_patches(make_dataset(np.full_like(IMAGES, 7)), epsilon=0.1)
