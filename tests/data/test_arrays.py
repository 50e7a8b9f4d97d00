import gzip
import zipfile

import numpy as np
import pytest

from convnets.data import load_dataset
from convnets.data.arrays import IDX_FILES, read_idx
from convnets.errors import UserError

from .records import make_examples


def make_arrays(shape=(6, 5, 3)):
    x_train, y_train = make_examples(12, shape=shape)
    x_test, y_test = make_examples(5, shape=shape, seed=1)
    return {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}


def write_idx(path, array):
    data = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    data += array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def test_npz(tmp_path):
    arrays = make_arrays()
    np.savez(tmp_path / "set.npz", **arrays)
    dataset = load_dataset(f"npz:{tmp_path / 'set.npz'}")
    np.testing.assert_array_equal(dataset.train.images, arrays["x_train"])
    np.testing.assert_array_equal(dataset.test.labels, arrays["y_test"])
    assert dataset.class_names == ("0", "1", "2")
    assert dataset.num_classes == 3
    pixels = arrays["x_train"].reshape(-1, 3) / 255
    np.testing.assert_allclose(dataset.normalization.mean, pixels.mean(0), rtol=1e-12)
    np.testing.assert_allclose(dataset.normalization.std, pixels.std(0), rtol=1e-9)


def test_npz_takes_grey_without_channel_and_labels_in_a_column(tmp_path):
    arrays = make_arrays((6, 5))
    arrays |= {key: arrays[key][:, None] for key in ("y_train", "y_test")}
    np.savez_compressed(tmp_path / "set.npz", **arrays)
    dataset = load_dataset(f"npz:{tmp_path / 'set.npz'}", image_size=(10, 10))
    assert dataset.image_shape == (10, 10, 1)
    assert dataset.train.labels.shape == (12,)
    assert dataset.notes == ("images of 6x5 are brought to 10x10",)


BAD = {
    "floats": (
        {"x_train": np.zeros((12, 6, 5, 3))},
        r"uint8 images, came float64; write np\.round",
    ),
    "NaN": ({"x_train": np.full((12, 6, 5, 3), np.nan)}, "there are NaN or infinite"),
    "rank": ({"x_test": np.zeros((5, 90), np.uint8)}, r"x_test in .*came shape \(5, 90\)"),
    "channels first": ({"x_train": np.zeros((12, 3, 6, 5), np.uint8)}, "transpose"),
    "lengths": ({"y_train": np.arange(11) % 3}, "a label for each of 12 images, came 11"),
    "negative": ({"y_train": np.arange(12) % 3 - 1}, "labels out of range: -1"),
    "gap": ({"y_train": np.arange(12) % 3 * 2}, "3 classes but labels up to 4"),
    "unseen": (
        {"y_test": np.array([0, 1, 2, 3, 0])},
        "test of npz:.* has the label 3, .* numbered 0 to 2",
    ),
    "float labels": ({"y_test": np.arange(5) / 2}, "expected integer labels, came float64"),
    "NaN labels": ({"y_train": np.full(12, np.nan)}, "expected integer labels"),
    "one-hot": ({"y_train": np.eye(12, dtype=int)}, r"argmax\(1\)"),
    "empty": ({"x_test": np.zeros((0, 6, 5, 3), np.uint8)}, "x_test .* is empty"),
    "sizes": (
        {"x_test": np.zeros((5, 5, 5, 3), np.uint8)},
        r"\(6, 5, 3\) in train, \(5, 5, 3\) in test",
    ),
    "one class": ({"y_train": np.zeros(12, int), "y_test": np.zeros(5, int)}, "only one class"),
    "objects": ({"y_test": np.array([None] * 5)}, "not a whole .npz"),
}


@pytest.mark.parametrize("case", BAD)
def test_npz_refuses(case, tmp_path):
    change, message = BAD[case]
    np.savez(tmp_path / "set.npz", **(make_arrays() | change))
    with pytest.raises(UserError, match=message):
        load_dataset(f"npz:{tmp_path / 'set.npz'}")


def test_npz_refuses_files_that_are_missing_cut_off_or_lack_an_array(tmp_path):
    path = tmp_path / "set.npz"
    with pytest.raises(UserError, match="there is no file"):
        load_dataset(f"npz:{path}")
    np.savez(path, images=np.zeros(3))
    with pytest.raises(UserError, match=r"has no x_train, y_train, x_test, y_test.*came images"):
        load_dataset(f"npz:{path}")
    np.savez(path, **make_arrays())
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(UserError, match=r"not a whole .npz"):
        load_dataset(f"npz:{path}")
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(UserError, match="a single array"):
        load_dataset(f"npz:{tmp_path / 'one.npy'}")


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_idx(tmp_path, ending):
    arrays = make_arrays((6, 5))
    for key, name in IDX_FILES.items():
        name = name.replace("-idx", ".idx") if key == "y_test" else name
        write_idx(tmp_path / f"{name}{ending}", arrays[key])
    dataset = load_dataset(f"idx:{tmp_path}")
    np.testing.assert_array_equal(dataset.test.images[..., 0], arrays["x_test"])
    np.testing.assert_array_equal(dataset.train.labels, arrays["y_train"])


def test_idx_refuses_what_is_missing_cut_off_or_another_file(tmp_path):
    with pytest.raises(UserError, match=r"there is no train-images-idx3-ubyte\.gz in"):
        load_dataset(f"idx:{tmp_path}")
    with pytest.raises(UserError, match="there is no folder"):
        load_dataset(f"idx:{tmp_path / 'nowhere'}")
    path = tmp_path / "a.gz"
    write_idx(path, np.arange(60).reshape(3, 4, 5))
    assert read_idx(path)[2, 3, 4] == 59
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match=r"a\.gz is damaged or truncated"):
        read_idx(path)
    plain = tmp_path / "a"
    write_idx(plain, np.arange(60).reshape(3, 4, 5))
    data = plain.read_bytes()
    for wrong, message in [
        (data[:-1], "expected 60 bytes.*came 59"),
        (data + b"x", "came 61"),
        (data[:7], "truncated"),
        (b"\0\0\x0d\x03" + data[4:], "no idx file of bytes: it begins with '00 00 0d 03'"),
        (b"", "no idx file"),
    ]:
        plain.write_bytes(wrong)
        with pytest.raises(UserError, match=message):
            read_idx(plain)


def test_idx_reads_the_original_mnist(shared):
    dataset = load_dataset(f"idx:{shared / 'data' / 'mnist'}")
    assert (len(dataset.train), len(dataset.test)) == (60000, 10000)
    assert np.bincount(dataset.test.labels)[:3].tolist() == [980, 1135, 1032]
    # The published mean and deviation of MNIST.
    assert round(dataset.normalization.mean[0], 4) == 0.1307
    assert round(dataset.normalization.std[0], 4) == 0.3081


@pytest.mark.parametrize("place", [6, 8, 10])  # in the archive's index: version, flags, method
def test_an_npz_of_a_kind_that_is_none_is_refused(place, tmp_path):
    path = tmp_path / "set.npz"
    np.savez(path, **make_arrays())
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + place] = 99
    path.write_bytes(data)
    with pytest.raises(UserError, match="not a whole .npz"):
        load_dataset(f"npz:{path}")


def test_an_npz_that_claims_more_than_there_is_is_refused(tmp_path):
    header = np.lib.format.magic(1, 0) + (118).to_bytes(2, "little")
    shape = b"{'descr': '|u1', 'fortran_order': False, 'shape': (10000000000000,), }"
    np.savez(tmp_path / "set.npz", **make_arrays())
    with zipfile.ZipFile(tmp_path / "set.npz") as whole:
        members = {name: whole.read(name) for name in whole.namelist()}
    members["x_train.npy"] = header + shape.ljust(117) + b"\n"
    with zipfile.ZipFile(tmp_path / "set.npz", "w") as claiming:
        for name, data in members.items():
            claiming.writestr(name, data)
    with pytest.raises(UserError, match="not a whole .npz"):
        load_dataset(f"npz:{tmp_path / 'set.npz'}")
