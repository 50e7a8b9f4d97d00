"""Bytes to floats, and the augmentations."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convnets import UserError, ops

from ..spreading import spread


def draw(*shape):
    return np.random.default_rng(0).uniform(0.1, 1, size=shape).astype(np.float32)


@pytest.fixture
def keys():
    return jax.random.split(jax.random.key(0), 400)


def test_prepare_scales_bytes_and_normalizes():
    images = np.array([0, 51, 255], np.uint8).reshape(1, 1, 1, 3)
    normalization = ops.image.Normalization((0.0, 0.2, 0.5), (1.0, 0.5, 0.25))
    prepared = ops.image.prepare(images, normalization)
    assert prepared.dtype == jnp.float32
    np.testing.assert_allclose(prepared.ravel(), [0, 0, 2], atol=1e-6)
    deep = ops.image.to_float(np.array([0, 65535], np.uint16))
    np.testing.assert_array_equal(deep, [0, 1])
    with pytest.raises(TypeError, match="int32"):
        ops.image.prepare(jnp.zeros((1, 1, 1, 1), jnp.int32))


def augment(function, key, images):
    return ops.image.prepare(images, None, function, key)


def mix(function, key, images):
    """As the loss mixes a batch; the shares stand beside the pixels."""
    images, shares = ops.image.mix_neighbors(
        function, key, images, ops.image.swap_neighbors(images)
    )
    shares = jnp.broadcast_to(shares.reshape(-1, 1, 1, 1), (*images.shape[:3], 1))
    return jnp.concatenate([images, shares], -1)


@pytest.fixture
def hasty():
    """Programs that run once are compiled in a third of the time without optimization."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("name", [*ops.image.AUGMENTATIONS, *ops.image.MIXES])
def test_a_batch_is_its_images_one_by_one_however_it_is_compiled(name):
    images = draw(16, 9, 7, 3)
    if name in ops.image.MIXES:
        run = partial(mix, ops.image.MIXES[name])
        each = [images, np.asarray(ops.image.swap_neighbors(images))]
    else:
        run = partial(augment, ops.image.AUGMENTATIONS[name])
        each = [images]
    key = jax.random.key(3)

    def function(data, images):
        return jnp.zeros(()), run(jax.random.wrap_key_data(data), images)

    data = jax.random.key_data(key)
    _, batch = spread(function, "jit", data, images)
    assert batch.shape[:3] == images.shape[:3]
    assert batch.dtype == np.float32
    assert batch.min() >= 0
    assert batch.max() <= 1
    for way in ("shard_map", "pmap"):
        _, other = spread(function, way, data, images)
        np.testing.assert_allclose(other, batch, atol=1e-5, err_msg=way)
    alone = jax.jit({**ops.image.AUGMENTATIONS, **ops.image.MIXES}[name])
    for index, result in enumerate(batch):
        found = alone(jax.random.fold_in(key, index), *(x[index] for x in each))
        found, share = found if name in ops.image.MIXES else (found, None)
        assert found.shape == images.shape[1:]
        np.testing.assert_allclose(found, result[..., :3], atol=1e-5)
        assert share is None or np.allclose(share, result[..., 3], atol=1e-5)
    keys = jax.random.split(key, 8)
    again = [np.asarray(alone(other, *(x[0] for x in each))[0]) for other in keys]
    assert any(not np.array_equal(again[0], other) for other in again)


def test_flip_mirrors_columns_in_half_of_the_cases(keys):
    image = draw(3, 4, 2)
    flipped = np.asarray(jax.jit(jax.vmap(ops.image.flip_horizontal, (0, None)))(keys, image))
    mirrored = (flipped == image[:, ::-1]).all((1, 2, 3))
    assert (mirrored | (flipped == image).all((1, 2, 3))).all()
    assert 160 < mirrored.sum() < 240
    always = partial(ops.image.flip_horizontal, probability=1.0)
    np.testing.assert_array_equal(always(keys[0], image), image[:, ::-1])
    always = partial(ops.image.flip_vertical, probability=1.0)
    np.testing.assert_array_equal(always(keys[0], image), image[::-1])


@pytest.mark.parametrize(
    ("function", "rows", "columns"),
    [
        (partial(ops.image.translate, max_shift=(1, 2)), 1, 2),
        (partial(ops.image.random_crop_with_padding, padding=1), 1, 1),
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


def test_compose_applies_in_order_with_own_keys(keys):
    image = draw(8, 8, 1)
    both = ops.image.compose(ops.image.translate, ops.image.flip_horizontal)
    first, second = jax.random.fold_in(keys[0], 0), jax.random.fold_in(keys[0], 1)
    expected = ops.image.flip_horizontal(second, ops.image.translate(first, image))
    np.testing.assert_array_equal(both(keys[0], image), expected)
    np.testing.assert_array_equal(ops.image.compose()(keys[0], image), image)
    twice = ops.image.compose(ops.image.flip_horizontal, ops.image.flip_horizontal)
    twice = jax.jit(jax.vmap(twice, (0, None)))(keys, image)
    undone = (np.asarray(twice) == image).all((1, 2, 3))
    assert 160 < undone.sum() < 240  # one shared key would undo every flip


def test_prepare_augments_before_it_normalizes(keys):
    images = np.full((3, 6, 6, 1), 255, np.uint8)
    shift = partial(ops.image.translate, max_shift=3)
    prepare = partial(
        ops.image.prepare,
        normalization=ops.image.Normalization((0.5,), (0.25,)),
        augment=shift,
        key=keys[0],
    )
    whole = jax.jit(prepare)(images)
    assert set(np.unique(np.round(whole, 5))) == {-2.0, 2.0}  # the fill is black, not the mean
    parts = jax.jit(jax.vmap(prepare, axis_name="data"))(images.reshape(3, 1, 6, 6, 1))
    np.testing.assert_array_equal(parts.reshape(whole.shape), whole)


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        (
            ops.image.flip_horizontal,
            {"probability": 1.5},
            r"probability must be in \[0, 1\], came 1.5",
        ),
        (ops.image.flip_vertical, {"probability": -0.5}, "probability"),
        (ops.image.translate, {"max_shift": -1}, "max_shift must not be negative, came -1"),
        (ops.image.rotate, {"max_degrees": -1}, "max_degrees must not be negative"),
        (ops.image.affine, {"max_shift": (1, -1)}, "max_shift must not be negative"),
        (ops.image.affine, {"max_shear": float("nan")}, "max_shear must not be negative, came nan"),
        (ops.image.affine, {"scale": 0.5}, "scale must be two rising numbers in"),
        (ops.image.affine, {"scale": (1.2, 0.8)}, "scale must be two rising numbers in"),
        (ops.image.elastic, {"sigma": -1.0}, "sigma must not be negative, came -1.0"),
        (ops.image.elastic, {"alpha": -1.0}, "alpha must not be negative, came -1.0"),
        (ops.image.elastic_affine, {"sigma": -1.0}, "sigma must not be negative"),
        (ops.image.color_jitter, {"hue": 0.6}, r"hue must be in \[0, 0.5\]"),
        (ops.image.color_jitter, {"contrast": -0.1}, "contrast must not be negative"),
        (ops.image.pca_noise, {"std": -0.1}, "std must not be negative"),
        (ops.image.random_erasing, {"probability": 2}, "probability must be in"),
        (ops.image.random_erasing, {"fill": 255}, "fill must be in"),
        (ops.image.random_erasing, {"area": (0.5, 0.1)}, "area must be two rising numbers in"),
        (
            ops.image.random_resized_crop,
            {"size": 4, "area": (0, 1)},
            "area must be two rising numbers",
        ),
        (
            ops.image.random_resized_crop,
            {"size": 4, "aspect": (-1, 1)},
            "aspect must be two rising",
        ),
        (ops.image.random_augment, {"magnitude": 31}, r"magnitude must be in \[0, 30\]"),
        (ops.image.random_augment, {"operations": -1}, "operations must not be negative"),
        (ops.image.mixup, {"alpha": 0}, "alpha must be positive, came 0"),
        (ops.image.mixup, {"alpha": float("inf")}, "alpha must be finite, came inf"),
        (ops.image.elastic, {"sigma": float("inf")}, "sigma must be finite, came inf"),
        (ops.image.affine, {"scale": (1.0, float("inf"))}, "scale must be two rising numbers"),
        (ops.image.cutmix, {"alpha": -1}, "alpha must be positive, came -1"),
    ],
)
def test_bad_options_are_refused(function, options, message, keys):
    images = [np.ones((8, 8, 3), np.float32)] * (2 if function in ops.image.MIXES.values() else 1)
    with pytest.raises(ValueError, match=message):
        function(keys[0], *images, **options)


@pytest.mark.parametrize("function", [ops.image.pca_noise, ops.image.color_jitter])
def test_colors_of_gray_images_are_refused(function, keys):
    with pytest.raises(UserError, match="3 channels, came 1"):
        function(keys[0], np.ones((8, 8, 1), np.float32))


@pytest.mark.parametrize("name", sorted(ops.image.AUGMENTATIONS))
def test_half_precision_stays_half_precision(name):
    half = jnp.linspace(0, 1, 16 * 16 * 3, dtype=jnp.bfloat16).reshape(16, 16, 3)
    found = jax.eval_shape(ops.image.AUGMENTATIONS[name], jax.random.key(0), half)
    assert (found.shape, found.dtype) == (half.shape, half.dtype)
    for mix in ops.image.MIXES.values():
        assert jax.eval_shape(mix, jax.random.key(0), half, half)[0].dtype == half.dtype


@pytest.mark.parametrize(
    "function",
    [
        lambda x: ops.image.mixup(jax.random.key(0), x, x),
        lambda x: ops.image.random_resized_crop(jax.random.key(0), x, size=4),
        lambda x: ops.image.random_erasing(jax.random.key(0), x),
        lambda x: ops.image.resize_part(x, (0, 0, 4, 4), 2, 2),
        lambda x: ops.image.pca_noise(jax.random.key(0), x),
        lambda x: ops.image.adjust_hue(x, 0.5),
    ],
)
def test_what_computes_with_pixels_refuses_bytes(function):
    with pytest.raises(TypeError, match="expected floats, came uint8"):
        function(jnp.ones((8, 8, 3), jnp.uint8))
