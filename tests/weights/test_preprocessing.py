"""Preprocessing equals what torchvision and timm do with Pillow, and what the filters promise."""

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import convnets
from convnets.errors import UserError
from convnets.weights.preprocessing import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Preprocessing,
    crop_center,
    describe_preprocessing,
    imagenet_classes,
    preprocess,
)

GRAY = Preprocessing(mean=(0.5,), std=(0.25,))


def photo(rows, columns, channels=3):
    rng = np.random.default_rng(rows * columns)
    image = rng.integers(0, 256, (rows // 8 + 1, columns // 8 + 1, channels)).repeat(8, 0)
    return image.repeat(8, 1)[:rows, :columns].astype(np.uint8)


@pytest.mark.parametrize(
    ("shape", "sizes", "resized", "corner"),
    [  # the numbers worked out by hand from torchvision's Resize and CenterCrop, (width, height)
        ((375, 500), (224, 0.875, "bilinear"), (341, 256), (58, 16)),
        ((500, 375), (224, 0.875, "bicubic"), (256, 341), (16, 58)),
        ((333, 500), (224, 0.965, "bilinear"), (348, 232), (62, 4)),
        ((256, 389), (224, 0.875, "lanczos"), (389, 256), (82, 16)),  # 82.5 goes to the even
        ((100, 150), (160, 0.95, "bicubic"), (252, 168), (46, 4)),
        ((97, 97), (224, 1.0, "nearest"), (224, 224), (0, 0)),
        ((1, 1), (8, 1.0, "bilinear"), (8, 8), (0, 0)),
    ],
)
def test_as_torchvision_does_it(shape, sizes, resized, corner):
    image, preprocessing = photo(*shape), Preprocessing(*sizes)
    method = Image.Resampling[sizes[2].upper()]
    left, top = corner
    reference = np.asarray(Image.fromarray(image).resize(resized, method))
    reference = reference[top : top + sizes[0], left : left + sizes[0]]
    np.testing.assert_array_equal(crop_center(image, preprocessing), reference)
    floats = reference.transpose(2, 0, 1).astype(np.float32) / np.float32(255)  # as a tensor
    mean, std = (np.float32(x).reshape(3, 1, 1) for x in (IMAGENET_MEAN, IMAGENET_STD))
    expected = ((floats - mean) / std).transpose(1, 2, 0)
    found = preprocess(image, preprocessing)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


def test_shrinking_is_antialiased():
    image = photo(400, 400, 1)
    found = crop_center(image, GRAY._replace(image_size=200, crop_fraction=1.0))
    # The triangle over four pixels: 1/8, 3/8, 3/8, 1/8 of each side.
    weights = np.array([1, 3, 3, 1]) / 8
    windows = np.lib.stride_tricks.sliding_window_view(image[..., 0], (4, 4))[1::2, 1::2]
    expected = np.einsum("yxij,i,j->yx", windows.astype(float), weights, weights)
    assert np.abs(found[1:-1, 1:-1, 0] - expected).max() <= 1


def test_channels_are_resized_alone():
    image = photo(90, 70, 4)
    image[..., 3] = 0  # would hide the rest, were it taken for transparency
    four = Preprocessing(32, 1.0, "bicubic", mean=(0.5,) * 4, std=(0.5,) * 4)
    one = four._replace(mean=(0.5,), std=(0.5,))
    found = crop_center(image, four)
    for channel in range(4):
        alone = crop_center(image[..., channel : channel + 1], one)
        np.testing.assert_array_equal(found[..., channel : channel + 1], alone)


def test_files(tmp_path):
    image, path = photo(300, 260), tmp_path / "photo.png"
    Image.fromarray(image).save(path)
    expected = preprocess(image, Preprocessing())
    np.testing.assert_array_equal(preprocess(path, Preprocessing()), expected)
    np.testing.assert_array_equal(preprocess(str(path), Preprocessing()), expected)
    assert preprocess(path, GRAY).shape == (224, 224, 1)
    with pytest.raises(UserError, match="nothing.png"):
        preprocess(tmp_path / "nothing.png", Preprocessing())


def test_real_photos(shared):
    from convnets.data.decoding import decode_image

    folder = shared / "data" / "imagenet_sample_1000" / "images"
    for path in sorted(folder.iterdir())[:8]:
        with Image.open(path) as opened:
            pixels = np.asarray(opened.convert("RGB"))
        np.testing.assert_array_equal(
            crop_center(path, Preprocessing()), crop_center(pixels, Preprocessing())
        )
        near = decode_image(path.read_bytes(), str(path), (224, 224, 3), resize=True)
        assert np.any(near != crop_center(pixels, Preprocessing(crop_fraction=1.0)))


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((9, 9, 1), np.uint8),
        np.zeros((9, 9), np.uint8),
        np.zeros((9, 9, 3), np.float32),
        np.zeros((0, 9, 3), np.uint8),
    ],
)
def test_other_images_are_refused(image):
    with pytest.raises(UserError, match=r"uint8 \[H, W, 3\], came"):
        preprocess(image, Preprocessing())
    with pytest.raises(UserError, match="did you mean 'bicubic'"):
        crop_center(np.zeros((9, 9, 3), np.uint8), Preprocessing(interpolation="bicubik"))


def test_normalization_is_the_one_of_prepare():
    image, preprocessing = photo(224, 224), Preprocessing(crop_fraction=1.0)
    prepared = convnets.prepare(jnp.asarray(image[None]), preprocessing.normalization)
    np.testing.assert_allclose(prepared[0], preprocess(image, preprocessing), rtol=1e-6, atol=1e-6)


CONFIG = {
    "architecture": "resnet50",
    "num_classes": 1000,
    "pretrained_cfg": {
        "tag": "a1h_in1k",
        "input_size": [3, 176, 176],
        "test_input_size": [3, 224, 224],
        "crop_pct": 0.9,
        "test_crop_pct": 1.0,
        "crop_mode": "center",
        "interpolation": "bicubic",
        "mean": [0.5, 0.4, 0.3],
        "std": [0.2, 0.3, 0.4],
    },
}


def test_the_config_of_a_repository():
    found = describe_preprocessing(CONFIG)
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    assert found == Preprocessing(176, 0.9, "bicubic", mean, std, imagenet_classes())
    ten = describe_preprocessing(CONFIG | {"num_classes": 2})
    assert ten.class_names is None
    for names in (["cat", "dog"], {"1": "dog", "0": "cat"}):
        named = describe_preprocessing(CONFIG | {"num_classes": 2, "label_names": names})
        assert named.class_names == ("cat", "dog")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_size": [3, 224, 192]}, "center crop of a square, came 224x192"),
        ({"crop_mode": "squash"}, "'squash'"),
        ({"crop_pct": 1.2}, "1.2"),
        ({"crop_pct": "all"}, "config of a timm model"),
        ({"input_size": 224}, "config of a timm model"),
        ({"interpolation": "random"}, "unknown interpolation 'random'"),
        ({"std": [1.0]}, "expected 3 means and positive deviations"),
        ({"std": [0, 0, 0]}, "positive deviations"),
        ({"mean": [0, float("nan"), 0]}, "expected 3 means"),
    ],
)
def test_other_configs_are_refused(change, message):
    changed = CONFIG | {"pretrained_cfg": CONFIG["pretrained_cfg"] | change}
    with pytest.raises(UserError, match=message):
        describe_preprocessing(changed)


@pytest.mark.parametrize("config", [{}, [], None, {"pretrained_cfg": None}])
def test_no_config_at_all(config):
    with pytest.raises(UserError, match="config of a timm model"):
        describe_preprocessing(config)


def test_class_names_are_those_of_the_photos(shared):
    lines = (shared / "data" / "imagenet_sample_1000" / "labels.csv").read_text().splitlines()[1:]
    assert [line.split(",")[3] for line in lines] == list(imagenet_classes())
    assert imagenet_classes()[207] == "golden retriever"
