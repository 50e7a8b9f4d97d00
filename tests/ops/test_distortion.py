"""Random distortions: their displacements against SciPy's filter, their ranges, their sum."""

import json
from functools import partial

import jax
import numpy as np
import pytest
from scipy import ndimage

from convnets import ops
from convnets.ops import image as every


@pytest.fixture
def keys():
    return jax.random.split(jax.random.key(0), 400)


def test_rotation_draws_its_angle_from_the_range(keys):
    # The pixel that stands right of the center moves to the angle's height.
    image = np.zeros((21, 21, 1), np.float32)
    image[10, 18] = 1
    rotate = jax.jit(jax.vmap(partial(ops.image.rotate, max_degrees=30), (0, None)))
    rotated = np.asarray(rotate(keys, image))[..., 0]
    place = np.arange(21.0) - 10
    mass = rotated.sum((1, 2))
    upward = -(rotated.sum(2) @ place) / mass
    rightward = (rotated.sum(1) @ place) / mass
    degrees = np.rad2deg(np.arctan2(upward, rightward))
    assert -31 < degrees.min() < -27
    assert 27 < degrees.max() < 31
    assert abs(degrees.mean()) < 3


@pytest.mark.parametrize(("alpha", "sigma"), [(34.0, 4.0), (8.0, 0.7), (3.0, 12.0)])
def test_the_elastic_field_is_uniform_noise_through_a_gaussian(alpha, sigma):
    key, size = jax.random.key(1), (20, 13)
    noise = ops.image.elastic_displacement(key, *size, alpha=1.0, sigma=0.0)
    field = jax.jit(
        partial(ops.image.elastic_displacement, alpha=alpha, sigma=sigma), static_argnums=(1, 2)
    )
    expected = [alpha * ndimage.gaussian_filter(each, sigma, mode="constant")
                for each in np.float64(noise)]  # fmt: skip
    np.testing.assert_allclose(field(key, *size), expected, atol=1e-5)


def test_the_noise_of_the_elastic_field_is_uniform_and_independent():
    noise = np.asarray(
        ops.image.elastic_displacement(jax.random.key(2), 100, 90, alpha=1.0, sigma=0.0)
    )
    for each in noise:
        counts, _ = np.histogram(each, 20, (-1, 1))
        assert ((counts - 450) ** 2 / 450).sum() < 43.8  # chi-square: 0.1 % are above
    correlations = np.corrcoef([noise[0].ravel(), noise[1].ravel(), np.roll(noise[0], 1).ravel()])
    assert abs(correlations - np.eye(3)).max() < 0.04
    smooth = np.asarray(ops.image.elastic_displacement(jax.random.key(3), 200, 200))[
        :, 20:-20, 20:-20
    ]
    expected = 34 / (4 * np.sqrt(12 * np.pi))
    assert np.sqrt((smooth**2).mean()) == pytest.approx(expected, rel=0.2)


def test_smoothing_is_that_of_scipy(shared):
    with np.load(shared / "parity/ops/augment/elastic.npz") as file:
        image = file["gaussian_filter/in/image"].astype(np.float32)
        for sigma in (0.7, 1.5, 3):
            expected = file[f"gaussian_filter/out/s{sigma}_constant"]
            np.testing.assert_allclose(ops.image.smooth(image, sigma), expected, atol=1e-5)


def test_elastic_distortion_is_that_of_scipy(shared):
    with np.load(shared / "parity/ops/augment/elastic.npz") as file:
        arguments = json.loads(str(file["e0/args"]))
        image, field = file["e0/in/image"], np.stack([file["e0/out/dy"], file["e0/out/dx"]])
        found = np.asarray(ops.image.warp(image[..., None].astype(np.float32), np.float32(field)))[
            ..., 0
        ]
        smoothed = arguments["alpha"] * ops.image.smooth(
            np.float32(file["e0/in/noise"]), arguments["sigma"]
        )
        np.testing.assert_allclose(smoothed[::-1], field, atol=1e-4)
        rows, columns = np.indices((28, 28)) + field
        inside = (rows >= 0) & (rows <= 27) & (columns >= 0) & (columns <= 27)
        assert 0.5 < inside.mean() < 1  # beyond, this mode knows no fading into zero
        np.testing.assert_allclose(found[inside], file["e0/out/y"][inside], atol=1e-4)


@pytest.mark.parametrize("name", ["elastic", "affine", "elastic_affine"])
def test_pixels_are_moved_as_by_map_coordinates(name):
    """The field is read off images that hold their own coordinates."""
    key = jax.random.key(5)
    distort = jax.jit(partial(getattr(ops.image, name)))
    inner = np.zeros((28, 28, 1), np.float32)
    inner[4:-4, 4:-4] = np.random.default_rng(0).uniform(size=(20, 20, 1))
    field = np.indices((28, 28)) + np.float64(displacement_of(name, key))
    expected = ndimage.map_coordinates(np.float64(inner[..., 0]), field, order=1, mode="constant")
    assert abs(expected - inner[..., 0]).max() > 0.3
    np.testing.assert_allclose(distort(key, inner)[..., 0], expected, atol=1e-4)


def displacement_of(name, key):
    """Where pixels are read: away from the border, an image of coordinates tells it."""
    size = 28
    if name == "elastic":
        return ops.image.elastic_displacement(key, size, size)
    large = np.stack(np.indices((size, size)), -1).astype(np.float32) + 100
    # Two constants tell how much of the frame of zeros was read.
    whole = getattr(ops.image, name)(key, np.concatenate([large, np.ones_like(large)], -1))
    found = np.asarray(whole)
    weight = np.where(found[..., 2:] > 0, found[..., 2:], 1)
    return np.moveaxis(found[..., :2] / weight - large, -1, 0)


def draw_matrices(keys, **options):
    """The affine maps that were drawn, read off their displacements: `[N, 2, 3]`."""
    names = {"max_shift": 0, "max_degrees": 0.0, "scale": (1.0, 1.0), "max_shear": 0.0} | options
    ramp = np.stack(np.indices((41, 41)), -1).astype(np.float32) - 20
    distort = jax.jit(jax.vmap(partial(every.affine, **names), (0, None)))
    found = np.asarray(distort(keys, ramp))[:, 15:26, 15:26].reshape(len(keys), -1, 2)
    places = ramp[15:26, 15:26].reshape(-1, 2)
    places = np.concatenate([places, np.ones((len(places), 1))], 1)
    return np.stack([np.linalg.lstsq(places, each, rcond=None)[0].T for each in found])


def test_each_affine_quantity_is_uniform_in_its_range(keys):
    shifts = draw_matrices(keys, max_shift=(2, 3.5))[..., 2]
    spread_over(-shifts[:, 0], -2, 2)
    spread_over(-shifts[:, 1], -3.5, 3.5)
    turns = draw_matrices(keys, max_degrees=30.0)
    spread_over(np.rad2deg(np.arctan2(turns[:, 0, 1], turns[:, 0, 0])), -30, 30)
    scales = draw_matrices(keys, scale=(0.8, 1.4))
    spread_over(1 / scales[:, 0, 0], 0.8, 1.4)
    spread_over(1 / scales[:, 1, 1], 0.8, 1.4)
    assert abs(np.corrcoef(scales[:, 0, 0], scales[:, 1, 1])[0, 1]) < 0.15
    spread_over(-draw_matrices(keys, max_shear=0.5)[:, 1, 0], -0.5, 0.5)


def spread_over(values, low, high):
    """Kolmogorov and Smirnov: values as far from uniform are seen once in ten thousand times."""
    ranks = np.sort((values - low) / (high - low))
    assert ranks[0] > -1e-3
    assert ranks[-1] < 1 + 1e-3
    distance = abs(ranks - (np.arange(len(ranks)) + 0.5) / len(ranks)).max()
    assert distance < 2.23 / np.sqrt(len(ranks))


@pytest.mark.parametrize("max_shift", [(1, 2, 3), (1,), (1, float("nan")), (1, float("inf")), -1])
def test_shifts_that_are_none_are_refused(max_shift):
    with pytest.raises(ValueError, match="max_shift"):
        ops.image.affine(jax.random.key(0), np.ones((4, 4, 1), np.float32), max_shift=max_shift)
