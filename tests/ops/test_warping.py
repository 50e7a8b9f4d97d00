"""Sampling between pixels and rotation, against SciPy and torchvision."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy import ndimage

from convnets import ops


def draw(height, width, channels):
    return np.random.default_rng(0).uniform(size=(height, width, channels)).astype(np.float32)


def test_sampling_is_that_of_scipy_in_a_frame_of_zeros():
    image = draw(6, 9, 2)
    places = np.random.default_rng(1).uniform(-3, 12, size=(2, 200)).astype(np.float32)
    places[:, :4] = [[0, 5, -1, 6], [0, 8, -1, 9]]  # on pixels: corners, and just outside
    values = jax.jit(ops.image.sample_bilinear)(image, *places)
    for channel in range(2):
        expected = ndimage.map_coordinates(
            image[..., channel], places, order=1, mode="grid-constant", cval=0
        )
        np.testing.assert_allclose(values[:, channel], expected, atol=1e-5)


@pytest.mark.parametrize("degrees", [0.0, 7.5, -33.0, 90.0, 180.0])
@pytest.mark.parametrize("size", [(8, 8), (7, 12)])
def test_rotation_is_that_of_scipy(degrees, size):
    image = draw(*size, 1)
    angle = np.deg2rad(degrees)
    matrix = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    center = (np.array(size) - 1) / 2
    expected = ndimage.affine_transform(
        image[..., 0].astype(np.float64),
        matrix,
        center - matrix @ center,
        order=1,
        mode="grid-constant",
    )
    np.testing.assert_allclose(
        jax.jit(ops.image.rotate_image)(image, degrees)[..., 0], expected, atol=1e-5
    )


def test_rotation_is_that_of_torchvision(shared):
    with np.load(shared / "parity/ops/augment/affine_torchvision.npz") as file:
        for case in ("rotate_30_plain", "rotate_90_plain"):
            degrees = json.loads(str(file[f"{case}/args"]))["angle"]
            image, expected = file[f"{case}/in/image"], file[f"{case}/out/bilinear"]
            rotated = jax.jit(ops.image.rotate_image)(image.transpose(1, 2, 0), degrees)
            np.testing.assert_allclose(rotated.transpose(2, 0, 1), expected, atol=1e-5)


@pytest.mark.parametrize("options", [
    {"degrees": 25.0, "scale": (0.8, 1.3), "shear": 0.2, "shift": (1.5, -2.25)},
    {"degrees": -70.0, "scale": (1.4, 1.4), "shear": 0.0, "shift": (0.0, 0.0)},
])  # fmt: skip
@pytest.mark.parametrize("size", [(8, 8), (7, 12)])
def test_an_affine_map_is_that_of_scipy(options, size):
    """The image is scaled, then sheared, then turned, then shifted; SciPy is told the inverse."""
    image, angle = draw(*size, 1), np.deg2rad(options["degrees"])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    forward = turn @ np.array([[1, 0], [options["shear"], 1]]) @ np.diag(options["scale"])
    matrix, center = np.linalg.inv(forward), (np.array(size) - 1) / 2
    expected = ndimage.affine_transform(
        image[..., 0].astype(np.float64),
        matrix,
        center - matrix @ (center + options["shift"]),
        order=1,
        mode="grid-constant",
    )
    found = ops.image.affine_matrix(options["degrees"], options["scale"], options["shear"])
    np.testing.assert_allclose(found, matrix, atol=1e-6)
    displacement = ops.image.affine_displacement(found, options["shift"], *size)
    np.testing.assert_allclose(ops.image.warp(image, displacement)[..., 0], expected, atol=1e-5)


def test_no_displacement_changes_no_bit():
    image = draw(5, 6, 3)
    still = ops.image.affine_displacement(ops.image.affine_matrix(), (0, 0), 5, 6)
    np.testing.assert_array_equal(ops.image.warp(image, still), image)


def test_gradients_are_the_finite_differences():
    with jax.enable_x64(True):
        image = draw(5, 4, 1).astype(np.float64)
        check_grads(jax.jit(ops.image.rotate_image), (image, 11.0), order=1, atol=1e-7, rtol=1e-7)


def test_half_precision_in_half_precision_out():
    image = jnp.asarray(draw(9, 9, 1), jnp.bfloat16)
    rotate = jax.jit(ops.image.rotate_image)
    rotated = rotate(image, 20.0)
    assert rotated.dtype == jnp.bfloat16
    expected = rotate(image.astype(jnp.float32), 20.0)
    np.testing.assert_allclose(rotated.astype(jnp.float32), expected, atol=0.02)


def test_integers_are_refused():
    image = jnp.zeros((4, 4, 1), jnp.uint8)
    with pytest.raises(TypeError, match="sample_bilinear: expected floats, came uint8"):
        ops.rotate_image(image, 10.0)
    with pytest.raises(TypeError, match="expected floats, came uint8"):
        ops.image.elastic(jax.random.key(0), image)
