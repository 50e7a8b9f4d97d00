"""HMAX against loops, the sizes of the paper, and what its maxima forgive."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import correlate2d

from convnets.errors import UserError
from convnets.models import HMAX, create_backbone, sample_prototypes
from convnets.models.hmax import BANDS, c1_maps, c2_cells, gabor_filters, s1_cells, s2_cells

SMALL = HMAX(patch_sizes=(2, 4), prototypes=6)


def digits(count=6, side=28, seed=0):
    """Random images with a dark border of at least three pixels."""
    inner = np.random.default_rng(seed).uniform(size=(count, side - 6, side - 6, 1))
    return np.pad(inner, ((0, 0), (3, 3), (3, 3), (0, 0))).astype(np.float32)


def gabor_by_loops(size, sigma, wavelength, degrees):
    angle, filters = np.deg2rad(degrees), np.empty((size, size))
    for i in range(size):
        for j in range(size):
            y, x = i - size // 2, j - size // 2
            x0 = x * np.cos(angle) + y * np.sin(angle)
            y0 = -x * np.sin(angle) + y * np.cos(angle)
            envelope = np.exp(-(x0**2 + 0.3**2 * y0**2) / (2 * sigma**2))
            filters[i, j] = envelope * np.cos(2 * np.pi * x0 / wavelength)
    filters -= filters.mean()
    return filters / np.linalg.norm(filters)


@pytest.mark.parametrize("band", [0, 3, 7])
def test_filters_are_equation_1_without_mean(band):
    size, sigma, wavelength = (values[1] for values in BANDS[band][:3])
    filters = gabor_filters(size, sigma, wavelength)
    for number, degrees in enumerate((0, 45, 90, 135)):
        expected = gabor_by_loops(size, sigma, wavelength, degrees)
        np.testing.assert_allclose(filters[:, :, 0, number], expected, atol=1e-12)


def test_the_table_of_the_paper():
    assert [size for band in BANDS for size in band.sizes] == list(range(7, 38, 2))
    assert [band.pool for band in BANDS] == list(range(8, 23, 2))
    assert all(2 * band.stride == band.pool for band in BANDS)
    ratios = [w / s for band in BANDS for s, w in zip(band.sigmas, band.wavelengths)]
    np.testing.assert_allclose(ratios, 1.25, atol=0.03)  # the paper's sigma is 0.8 lambda


def s1_by_loops(image, size, sigma, wavelength):
    padded, cells = np.pad(image, size // 2), np.zeros((*image.shape, 4))
    for number, degrees in enumerate((0, 45, 90, 135)):
        kernel = gabor_by_loops(size, sigma, wavelength, degrees)
        cells[..., number] = np.abs(correlate2d(padded, kernel, "valid"))
    for i, j in np.ndindex(image.shape):
        norm = np.linalg.norm(padded[i : i + size, j : j + size])
        cells[i, j] = cells[i, j] / norm if norm > 0 else 0
    return cells


def test_s1_and_c1_are_the_loops():
    image = digits(1, side=20)
    np.testing.assert_allclose(
        s1_cells(jnp.asarray(image), 7, 2.8, 3.5)[0],
        s1_by_loops(image[0, ..., 0].astype(float), 7, 2.8, 3.5),
        atol=1e-4,
    )
    band = BANDS[0]
    scales = zip(band.sizes, band.sigmas, band.wavelengths)
    first, second = (s1_by_loops(image[0, ..., 0].astype(float), *scale) for scale in scales)
    (cells,) = c1_maps(jnp.asarray(image), BANDS[:1])
    assert cells.shape == (1, 4, 4, 4)
    for i, j in np.ndindex(4, 4):
        grid = slice(4 * i, 4 * i + 8), slice(4 * j, 4 * j + 8)
        expected = np.maximum(first[grid], second[grid]).max((0, 1))
        np.testing.assert_allclose(cells[0, i, j], expected, atol=1e-4)


def test_s2_and_c2_are_the_loops():
    rng = np.random.default_rng(0)
    bands = [rng.uniform(size=(2, side, side, 4)).astype(np.float32) for side in (5, 3, 2)]
    patches = rng.uniform(size=(3, 3, 4, 5)).astype(np.float32)
    best = np.zeros((2, 5))
    for cells in bands[:2]:  # the third has no room for 3x3 cells
        s2 = np.asarray(s2_cells(jnp.asarray(cells), jnp.asarray(patches), 0.3))
        side = cells.shape[1] - 2
        assert s2.shape == (2, side, side, 5)
        for b, i, j, n in np.ndindex(*s2.shape):
            square = ((cells[b, i : i + 3, j : j + 3] - patches[..., n]) ** 2).sum()
            expected = np.exp(-0.3 * (4 / 3) ** 2 * square)
            assert s2[b, i, j, n] == pytest.approx(expected, rel=1e-4)
        best = np.maximum(best, s2.max((1, 2)))
    c2 = c2_cells([jnp.asarray(cells) for cells in bands], jnp.asarray(patches), 0.3)
    np.testing.assert_allclose(c2, best, rtol=1e-6)


def test_prototypes_are_patches_of_the_images():
    images = jnp.asarray(digits())
    params = sample_prototypes(jax.random.key(0), SMALL, images)
    assert {name: leaf.shape for name, leaf in params.items()} == {
        "prototypes2": (2, 2, 4, 6),
        "prototypes4": (4, 4, 4, 6),
    }
    c2 = jax.jit(partial(SMALL.apply, train=False))({"params": params}, images)["c2"]
    np.testing.assert_allclose(c2.max(0), 1, atol=1e-5)  # each is found where it was cut out
    assert (c2 < 0.99).any()
    again = sample_prototypes(jax.random.key(0), SMALL, images)
    np.testing.assert_array_equal(params["prototypes4"], again["prototypes4"])
    other = sample_prototypes(jax.random.key(1), SMALL, images)
    assert np.abs(params["prototypes4"] - other["prototypes4"]).max() > 0.01


def test_shifts_that_the_pooling_covers_do_not_change_c2():
    """By a whole step of C1, everything moves by one cell and the last maximum takes it."""
    backbone = HMAX(patch_sizes=(2,), prototypes=6, bands=BANDS[:1])
    pattern = np.random.default_rng(3).uniform(size=(1, 12, 12, 1)).astype(np.float32)
    around = [(20, 24), (20, 24)]
    image = np.pad(pattern, ((0, 0), *around, (0, 0)))
    params = sample_prototypes(jax.random.key(0), backbone, jnp.asarray(pattern))
    run = jax.jit(lambda x: backbone.apply({"params": params}, x, train=False)["c2"])
    expected = run(image)
    for shift in ((4, 0), (0, 4), (-4, 8)):
        np.testing.assert_allclose(run(np.roll(image, shift, (1, 2))), expected, atol=1e-5)
    assert np.abs(run(image.transpose(0, 2, 1, 3)) - expected).max() > 1e-3


def test_contrast_does_not_matter():
    images = jnp.asarray(digits(2))
    run = jax.jit(c1_maps)
    for cells, dim in zip(run(images), run(0.3 * images)):
        np.testing.assert_allclose(dim, cells, atol=1e-4)


def test_bands_that_do_not_fit_are_left_out():
    for side, count in ((28, 5), (36, 7), (37, 8)):
        assert len(jax.eval_shape(c1_maps, jnp.zeros((1, side, side, 1)))) == count
    backbone = create_backbone("hmax")
    images = jax.ShapeDtypeStruct((1, 140, 140, 1), jnp.float32)
    endpoints = jax.eval_shape(
        lambda x: backbone.init_with_output(jax.random.key(0), x, train=False)[0], images
    )
    assert endpoints["c2"].shape == (1, 1000)
    assert endpoints["c1_band1"].shape == (1, 34, 34, 4)
    assert endpoints["c1_band8"].shape == (1, 11, 11, 4)
    with pytest.raises(UserError, match="8x8 cells fit in no band"):
        sample_prototypes(jax.random.key(0), backbone.clone(patch_sizes=(8,)), digits())
    with pytest.raises(TypeError, match="uint8"):
        backbone.init(jax.random.key(0), jnp.zeros((1, 140, 140, 1), jnp.uint8), train=False)


def test_gradients_are_finite_on_dark_images():
    params = sample_prototypes(jax.random.key(0), SMALL, jnp.asarray(digits()))

    def score(params, images):
        return SMALL.apply({"params": params}, images, train=False)["c2"].sum()

    gradient = jax.jit(jax.grad(score, argnums=(0, 1)))
    for images in (jnp.zeros((2, 28, 28, 1)), jnp.asarray(digits(2, seed=1))):
        grads = gradient(params, images)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(grads))
