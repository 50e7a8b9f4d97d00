"""Bytes to floats, and the augmentations."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convnets import ops


def draw(*shape):
    return np.random.default_rng(0).uniform(0.1, 1, size=shape).astype(np.float32)


@pytest.fixture
def keys():
    return jax.random.split(jax.random.key(0), 400)


def test_prepare_scales_bytes_and_normalizes():
    images = np.array([0, 51, 255], np.uint8).reshape(1, 1, 1, 3)
    normalization = ops.Normalization((0.0, 0.2, 0.5), (1.0, 0.5, 0.25))
    prepared = ops.prepare(images, normalization)
    assert prepared.dtype == jnp.float32
    np.testing.assert_allclose(prepared.ravel(), [0, 0, 2], atol=1e-6)
    deep = ops.to_float(np.array([0, 65535], np.uint16))
    np.testing.assert_array_equal(deep, [0, 1])
    with pytest.raises(TypeError, match="int32"):
        ops.prepare(jnp.zeros((1, 1, 1, 1), jnp.int32))


@pytest.mark.parametrize("name", ops.AUGMENTATIONS)
def test_a_batch_is_its_images_one_by_one(name, keys):
    function = ops.AUGMENTATIONS[name]
    images = draw(6, 9, 7, 2)
    batch = jax.jit(jax.vmap(function))(keys[:6], images)
    assert batch.shape == images.shape
    assert batch.dtype == jnp.float32
    assert batch.min() >= 0
    assert batch.max() <= 1
    alone = jax.jit(function)
    for key, image, result in zip(keys, images, batch):
        np.testing.assert_allclose(alone(key, image), result, atol=1e-5)
    again = alone(keys[0], images[0])
    assert any(not np.array_equal(again, alone(key, images[0])) for key in keys[1:9])


def test_flip_mirrors_columns_in_half_of_the_cases(keys):
    image = draw(3, 4, 2)
    flipped = np.asarray(jax.jit(jax.vmap(ops.flip_horizontal, (0, None)))(keys, image))
    mirrored = (flipped == image[:, ::-1]).all((1, 2, 3))
    assert (mirrored | (flipped == image).all((1, 2, 3))).all()
    assert 160 < mirrored.sum() < 240
    always = partial(ops.flip_horizontal, probability=1.0)
    np.testing.assert_array_equal(always(keys[0], image), image[:, ::-1])


@pytest.mark.parametrize(
    ("function", "rows", "columns"),
    [
        (partial(ops.translate, max_shift=(1, 2)), 1, 2),
        (partial(ops.random_crop_with_padding, padding=1), 1, 1),
    ],
)
def test_translation_takes_every_whole_shift_equally_often(function, rows, columns, keys):
    image = draw(5, 6, 1)
    results = np.asarray(jax.jit(jax.vmap(function, (0, None)))(keys, image))
    frame = np.pad(image, ((rows, rows), (columns, columns), (0, 0)))
    shifts = [
        frame[i : i + 5, j : j + 6] for i in range(2 * rows + 1) for j in range(2 * columns + 1)
    ]
    counts = [(results == shift).all((1, 2, 3)).sum() for shift in shifts]
    assert sum(counts) == 400
    assert min(counts) > 400 / len(shifts) / 2


def test_rotation_draws_its_angle_from_the_range(keys):
    # The pixel that stands right of the center moves to the angle's height.
    image = np.zeros((21, 21, 1), np.float32)
    image[10, 18] = 1
    rotate = jax.jit(jax.vmap(partial(ops.rotate, max_degrees=30), (0, None)))
    rotated = np.asarray(rotate(keys, image))[..., 0]
    place = np.arange(21.0) - 10
    mass = rotated.sum((1, 2))
    upward = -(rotated.sum(2) @ place) / mass
    rightward = (rotated.sum(1) @ place) / mass
    degrees = np.rad2deg(np.arctan2(upward, rightward))
    assert -31 < degrees.min() < -27
    assert 27 < degrees.max() < 31
    assert abs(degrees.mean()) < 3


def test_compose_applies_in_order_with_own_keys(keys):
    image = draw(8, 8, 1)
    both = ops.compose(ops.translate, ops.flip_horizontal)
    first, second = jax.random.fold_in(keys[0], 0), jax.random.fold_in(keys[0], 1)
    expected = ops.flip_horizontal(second, ops.translate(first, image))
    np.testing.assert_array_equal(both(keys[0], image), expected)
    np.testing.assert_array_equal(ops.compose()(keys[0], image), image)
    twice = ops.compose(ops.flip_horizontal, ops.flip_horizontal)
    twice = jax.jit(jax.vmap(twice, (0, None)))(keys, image)
    undone = (np.asarray(twice) == image).all((1, 2, 3))
    assert 160 < undone.sum() < 240  # one shared key would undo every flip


def test_prepare_augments_before_it_normalizes(keys):
    images = np.full((3, 6, 6, 1), 255, np.uint8)
    shift = partial(ops.translate, max_shift=3)
    prepare = partial(
        ops.prepare, normalization=ops.Normalization((0.5,), (0.25,)), augment=shift, key=keys[0]
    )
    whole = jax.jit(prepare)(images)
    assert set(np.unique(np.round(whole, 5))) == {-2.0, 2.0}  # the fill is black, not the mean
    parts = jax.jit(jax.vmap(prepare, axis_name="data"))(images.reshape(3, 1, 6, 6, 1))
    np.testing.assert_array_equal(parts.reshape(whole.shape), whole)
