"""Pretrained models: fetched, verified, adapted; the hub is a stand-in."""

import functools
import hashlib
import json

import huggingface_hub
import huggingface_hub.constants
import jax
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict
from huggingface_hub.errors import LocalEntryNotFoundError

import convnets
from convnets.errors import UserError
from convnets.weights import (
    Preprocessing,
    adapt_input,
    export_torch,
    load_pretrained,
    write_safetensors,
)
from convnets.weights.importing import variable_shapes
from convnets.weights.pretrained import count_classes
from convnets.weights.releases import RELEASES, Release

SMALL = "resnet18"
SIDE = 32  # pixels
COMMIT = "0" * 40
CONFIG = {
    "architecture": SMALL,
    "num_classes": 10,
    "label_names": [f"thing {number}" for number in range(10)],
    "pretrained_cfg": {"input_size": [3, 32, 32], "crop_pct": 1.0, "interpolation": "bicubic"},
}


@functools.cache
def variables(num_classes=10):
    """Random variables of the model, scales and variances positive."""
    rng = np.random.default_rng(num_classes)
    shapes = variable_shapes(convnets.create_model(SMALL, num_classes), SMALL)
    flat = {
        path: np.abs(0.1 * rng.standard_normal(shape)).astype(np.float32)
        for path, shape in shapes.items()
    }
    return unflatten_dict(flat, sep="/")


def state_dict(num_classes=10):
    return export_torch(SMALL, variables(num_classes), "timm")


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "small.safetensors"
    write_safetensors(path, state_dict())
    return path


@pytest.fixture
def hub(monkeypatch, tmp_path, weights):
    """A cache of the hub with one repository, and no network."""
    monkeypatch.setitem(RELEASES, "small.x_in1k", Release(SMALL, "timm/small.x_in1k", None))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    folder = tmp_path / "cache" / "models--timm--small.x_in1k"
    for name in ("blobs", "refs", f"snapshots/{COMMIT}"):
        (folder / name).mkdir(parents=True)
    (folder / "refs" / "main").write_text(COMMIT)
    data = weights.read_bytes()
    files = {"model.safetensors": (data, hashlib.sha256(data).hexdigest())}
    files["config.json"] = (json.dumps(CONFIG).encode(), "1" * 40)
    for name, (content, etag) in files.items():
        (folder / "blobs" / etag).write_bytes(content)
        (folder / "snapshots" / COMMIT / name).symlink_to(f"../../blobs/{etag}")
    return folder


def logits(found, images):
    apply = jax.jit(lambda variables, images: found.model.apply(variables, images, train=False))
    return np.asarray(apply(found.variables, images))


def assert_same(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_from_the_cache_of_the_hub(hub):
    found = load_pretrained("small.x_in1k", cache_dir=hub.parent)
    assert found.model == convnets.create_model(SMALL, 10)
    assert found.preprocessing.class_names == tuple(CONFIG["label_names"])
    assert found.preprocessing[:3] == (32, 1.0, "bicubic")
    assert_same(found.variables, variables())


def test_what_is_asked_of_the_hub(monkeypatch, weights, tmp_path):
    asked = []

    def hf_hub_download(repository, file, *, cache_dir):
        asked.append((repository, file, cache_dir))
        if file == "model.safetensors":
            return str(weights)
        (tmp_path / file).write_text(json.dumps(CONFIG))
        return str(tmp_path / file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hf_hub_download)
    monkeypatch.setitem(RELEASES, "small.x_in1k", Release(SMALL, "timm/small.x_in1k", None))
    load_pretrained("small.x_in1k", cache_dir="here")
    names = ("model.safetensors", "config.json")
    assert asked == [("timm/small.x_in1k", name, "here") for name in names]


def test_damaged_files_of_the_cache(hub):
    blob = next(path for path in (hub / "blobs").iterdir() if len(path.name) == 64)
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    blob.write_bytes(data)
    with pytest.raises(UserError, match="SHA-256") as caught:
        load_pretrained("small.x_in1k", cache_dir=hub.parent)
    assert str(blob) in str(caught.value)
    assert "delete" in str(caught.value)
    data[-1] ^= 1
    blob.write_bytes(data)
    (hub / "blobs" / ("1" * 40)).write_text("{")
    with pytest.raises(UserError, match=r"config\.json is damaged, delete it"):
        load_pretrained("small.x_in1k", cache_dir=hub.parent)


@pytest.mark.parametrize("error", [LocalEntryNotFoundError("no network"), OSError("no network")])
def test_without_network(monkeypatch, error):
    def hf_hub_download(*_, **__):
        raise error

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hf_hub_download)
    address = "https://huggingface.co/timm/resnet18.tv_in1k/resolve/main/model.safetensors"
    with pytest.raises(UserError, match="no network") as caught:
        load_pretrained("resnet18")
    assert address in str(caught.value)
    assert "file=PATH" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_real_client_without_network(hub):
    with pytest.raises(UserError, match="cannot fetch model.safetensors of timm/resnet18.tv_in1k"):
        load_pretrained("resnet18", cache_dir=hub.parent)


def test_from_a_file(weights, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", None)  # not called
    found = load_pretrained(SMALL, file=weights)
    assert_same(found.variables, variables())
    assert found.preprocessing == Preprocessing(224)  # ten classes: not ImageNet's
    write_safetensors(weights, export_torch(SMALL, variables(), "torchvision"))
    again = load_pretrained(SMALL, file=weights, source="torchvision")
    assert_same(again.variables, variables())
    with pytest.raises(UserError, match="nothing.pt"):
        load_pretrained(SMALL, file=weights.with_name("nothing.pt"))


def test_what_torchvisions_inceptions_want_of_an_image(tmp_path):
    """Their models bring images from ImageNet's normalization to -1 to 1 first."""
    shapes = variable_shapes(convnets.create_model("googlenet"), "googlenet")
    zeros = {path: np.zeros(shape, np.float32) for path, shape in shapes.items()}
    path = tmp_path / "googlenet.safetensors"
    write_safetensors(path, export_torch("googlenet", unflatten_dict(zeros, sep="/")))
    found = load_pretrained("googlenet", file=path, source="torchvision", num_classes=3)
    assert found.preprocessing.normalization == ((0.5,) * 3, (0.5,) * 3)
    assert found.preprocessing.image_size == 224
    heads = [found.variables["params"][f"auxiliary{n}"]["head"]["bias"] for n in (1, 2)]
    assert [head.shape for head in heads] == [(3,), (3,)]


def test_a_file_of_other_classes_is_taken_as_it_is(weights):
    write_safetensors(weights, state_dict(7))
    for num_classes in (None, 7):
        found = load_pretrained(SMALL, file=weights, num_classes=num_classes)
        assert found.model.num_classes == 7
        assert_same(found.variables, variables(7))


def test_another_number_of_classes(hub):
    whole = load_pretrained("small.x_in1k", cache_dir=hub.parent)
    found = load_pretrained("small.x_in1k", cache_dir=hub.parent, num_classes=4)
    again = load_pretrained("small.x_in1k", cache_dir=hub.parent, num_classes=4)
    assert found.preprocessing.class_names is None
    head = found.variables["params"]["head"]
    assert head["bias"].shape == (4,)
    assert np.std(head["kernel"]) > 0
    np.testing.assert_array_equal(head["kernel"], again.variables["params"]["head"]["kernel"])
    assert_same(found.variables["params"]["backbone"], variables()["params"]["backbone"])
    images = np.random.default_rng(1).random((2, SIDE, SIDE, 3), np.float32)
    assert logits(found, images).shape == (2, 4)
    none = load_pretrained("small.x_in1k", cache_dir=hub.parent, num_classes=0)
    assert "head" not in none.variables["params"]
    features = whole.model.apply(whole.variables, images, train=False, method="endpoints")
    np.testing.assert_allclose(logits(none, images), features["pre_logits"], rtol=1e-4)


def test_a_fresh_head_has_classes_without_names(weights):
    found = load_pretrained(SMALL, file=weights, num_classes=1000)
    assert found.preprocessing.class_names is None


def test_gray_images_give_what_their_copies_gave(weights):
    gray = np.random.default_rng(2).standard_normal((2, SIDE, SIDE, 1)).astype(np.float32)
    whole = load_pretrained(SMALL, file=weights)
    found = load_pretrained(SMALL, file=weights, in_channels=1)
    expected = logits(whole, gray.repeat(3, axis=3))
    assert np.abs(expected[0] - expected[1]).max() > 0
    np.testing.assert_allclose(logits(found, gray), expected, rtol=1e-3)
    assert found.preprocessing.mean == pytest.approx((0.449,))
    assert found.preprocessing.std == pytest.approx((0.226,))


def test_images_of_many_channels(weights):
    images = np.random.default_rng(2).standard_normal((2, SIDE, SIDE, 3)).astype(np.float32)
    whole = load_pretrained(SMALL, file=weights)
    found = load_pretrained(SMALL, file=weights, in_channels=6, adapt="repeat", num_classes=10)
    twice = np.concatenate([images, images], axis=3)
    np.testing.assert_allclose(logits(found, twice), logits(whole, images), rtol=1e-3)
    assert len(found.preprocessing.mean) == len(found.preprocessing.std) == 6
    with pytest.raises(UserError, match="adapt='repeat'"):
        load_pretrained(SMALL, file=weights, in_channels=4)


def test_adapting_the_first_kernel():
    kernel = np.random.default_rng(0).standard_normal((3, 3, 3, 5)).astype(np.float32)
    summed = adapt_input(kernel, 1, "sum")
    expected = kernel[:, :, 0] + kernel[:, :, 1] + kernel[:, :, 2]
    np.testing.assert_allclose(summed[:, :, 0], expected, atol=1e-6)
    for channels in (1, 2, 4, 7):
        repeated = adapt_input(kernel, channels, "repeat")
        assert repeated.shape == (3, 3, channels, 5)
        assert repeated.dtype == np.float32
        for index in range(channels):
            np.testing.assert_allclose(
                repeated[:, :, index], kernel[:, :, index % 3] * 3 / channels, rtol=1e-6
            )
    for how in ("sum", "repeat"):
        np.testing.assert_array_equal(adapt_input(kernel, 3, how), kernel)
    with pytest.raises(UserError, match="1 channel, came 4"):
        adapt_input(kernel, 4, "sum")
    with pytest.raises(UserError, match="to 0 channels"):
        adapt_input(kernel, 0, "repeat")
    with pytest.raises(UserError, match="unknown adaption 'mean'"):
        adapt_input(kernel, 1, "mean")
    with pytest.raises(UserError, match=r"\[3, 3, 64, 5\]"):
        adapt_input(np.zeros((3, 3, 64, 5)), 1, "sum")


def test_weights_that_do_not_fit(weights):
    right = state_dict()
    for change, message in [
        ({"layer1.0.bn1.bias": None}, "missing layer1.0.bn1.bias"),
        ({"more": np.zeros(1, np.float32)}, "left over more"),
        ({"fc.weight": right["fc.weight"][:, :4]}, r"fc.weight \(10, 512\) \(came .*\(10, 4\)"),
    ]:
        changed = {k: x for k, x in (right | change).items() if x is not None}
        write_safetensors(weights, changed)
        with pytest.raises(UserError, match=message):
            load_pretrained(SMALL, file=weights)


def test_names_and_options_are_checked_before_anything_is_fetched(monkeypatch):
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", None)
    with pytest.raises(UserError, match="list_pretrained"):
        load_pretrained("resnet51")
    with pytest.raises(UserError, match="unknown adaption 'mean'"):
        load_pretrained("resnet18", adapt="mean")
    with pytest.raises(UserError, match="unknown model 'resnet51'"):
        load_pretrained("resnet51", file="x.pt")
    with pytest.raises(UserError, match="num_classes"):
        load_pretrained("resnet18", num_classes=-1)


@pytest.mark.parametrize(
    ("name", "source", "head"),
    [
        ("resnet50", "torchvision", "fc"),
        ("vgg16", "torchvision", "classifier.6"),
        ("convnext_tiny", "timm", "head.fc"),
        ("densenet121", "timm", "classifier"),
        ("googlenet", "torchvision", "fc"),
    ],
)
def test_counting_classes(name, source, head):
    others = {"classifier.0.bias": np.zeros(9), "head.norm.bias": np.zeros(9), "aux1.fc2.bias": 9}
    assert count_classes(name, {**others, f"{head}.bias": np.zeros(5)}, source) == 5
    assert count_classes(name, others, source) is None
