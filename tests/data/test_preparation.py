import io
import os
import shutil
import subprocess
import sys
import tarfile
import urllib.error

import numpy as np
import pytest

from convnets.data import load_dataset, preparation, prepare_dataset
from convnets.data.preparation import parse_cifar, read_cifar_archive
from convnets.errors import UserError


def test_mnist_from_its_archives_after_a_kill(shared, tmp_path):
    archives = shared / "data" / "mnist"
    script = (
        "import os; from convnets.data import preparation\n"
        "encode, left = preparation.encode_png, iter(range(5000))\n"
        "preparation.encode_png = lambda x: encode(x) if next(left, None) is not None"
        " else os._exit(9)\n"
        f"preparation.prepare_dataset('mnist', source_dir={str(archives)!r}, data_dir='.')"
    )
    killed = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, stdout=subprocess.DEVNULL)
    assert killed.returncode == 9
    assert list((tmp_path / "mnist").iterdir())  # something was begun
    with pytest.raises(UserError, match="mnist is not prepared"):
        load_dataset("mnist", data_dir=tmp_path)

    message = prepare_dataset("mnist", source_dir=archives, data_dir=tmp_path)
    assert message == f"mnist is prepared in {tmp_path / 'mnist' / '3.0.1'}"
    dataset = load_dataset("mnist", data_dir=tmp_path)
    other = load_dataset("mnist", data_dir=shared / "data" / "tfds")
    for split in ("train", "test"):
        here, there = getattr(dataset, split), getattr(other, split)
        np.testing.assert_array_equal(here.images, there.images)
        np.testing.assert_array_equal(here.labels, there.labels)
    assert "tensorflow" not in sys.modules

    import tensorflow_datasets as tfds

    data = tfds.data_source("mnist:3.0.1", split="test", data_dir=tmp_path)
    np.testing.assert_array_equal(data[7]["image"], dataset.test.images[7])
    assert tfds.builder("mnist", data_dir=tmp_path).is_prepared()
    message = prepare_dataset("mnist", data_dir=tmp_path)
    assert "prepared already" in message


def test_archives_that_are_missing_or_changed_are_refused(shared, tmp_path):
    def prepare():
        return prepare_dataset("mnist", source_dir=archives, data_dir=tmp_path / "tfds")

    archives = tmp_path / "archives"
    with pytest.raises(UserError, match=r"there is no folder .*archives"):
        prepare()
    shutil.copytree(shared / "data" / "mnist", archives)
    changed = archives / "t10k-labels-idx1-ubyte.gz"
    os.chmod(archives, 0o755)
    os.chmod(changed, 0o644)
    changed.write_bytes(changed.read_bytes()[:-1] + b"\1")
    with pytest.raises(UserError, match=r"t10k-labels-idx1-ubyte\.gz is not the archive expected"):
        prepare()
    changed.unlink()
    with pytest.raises(UserError, match=r"does not hold t10k-labels-idx1-ubyte\.gz$"):
        prepare()
    assert not (tmp_path / "tfds" / "mnist" / "3.0.1").exists()


def test_without_network_the_message_says_what_to_do(tmp_path, monkeypatch):
    def no_network(request, timeout):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(preparation.urllib.request, "urlopen", no_network)
    with pytest.raises(UserError) as error:
        prepare_dataset("cifar10", data_dir=tmp_path)
    message = str(error.value)
    assert "cannot download cifar10: Name or service not known" in message
    assert "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz" in message
    assert f"`convnets data prepare cifar10 --data-dir {tmp_path} --from FOLDER`" in message


def test_names_and_folders_that_cannot_be_prepared(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="unknown data set 'mnits'; did you mean 'mnist'"):
        prepare_dataset("mnits", data_dir=tmp_path)
    with pytest.raises(UserError, match=r"cannot prepare mnist:3\.0\.0: .*only: 3\.0\.1"):
        prepare_dataset("mnist:3.0.0", data_dir=tmp_path)
    (tmp_path / "mnist" / "3.0.1").mkdir(parents=True)
    with pytest.raises(UserError, match=r"mnist/3\.0\.1 is there but holds no whole set"):
        prepare_dataset("mnist", data_dir=tmp_path)


def test_other_sets_need_tensorflow(tmp_path, monkeypatch):
    monkeypatch.setattr(preparation.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="preparing emnist/letters needs TensorFlow, which is not"):
        prepare_dataset("emnist/letters", data_dir=tmp_path)


def test_other_sets_are_left_to_tensorflow_datasets(tmp_path, monkeypatch):
    class Builder:
        data_dir = "where"

        def download_and_prepare(self, download_config):
            if download_config.manual_dir != "archives":
                raise AssertionError("fetch x.tar by hand")

    monkeypatch.setattr(preparation.importlib.util, "find_spec", lambda name: True)
    monkeypatch.setattr(preparation, "_make_builder", lambda name, data_dir: Builder())
    message = prepare_dataset("emnist/letters", source_dir="archives", data_dir=tmp_path)
    assert message == "emnist/letters is prepared in where"
    with pytest.raises(UserError, match=r"could not prepare emnist/letters: fetch x\.tar by hand"):
        prepare_dataset("emnist/letters", data_dir=tmp_path)


def make_cifar(folder, files):
    """A `.tar.gz` as CIFAR's, with small files; gives its path and, by file, images and labels."""
    with tarfile.open(folder, "w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(f"cifar-binary/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return folder


def cifar_records(count, label_count, seed):
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (count, 32, 32, 3), np.uint8)
    labels = generator.integers(0, 10, (count, label_count), np.uint8)
    rows = [
        bytes(label) + b"".join(image[:, :, channel].tobytes() for channel in range(3))
        for image, label in zip(images, labels)
    ]
    return images, labels, b"".join(rows)


@pytest.mark.parametrize("label_count", [1, 2])
def test_cifar_records(label_count):
    images, labels, data = cifar_records(4, label_count, 0)
    parsed = parse_cifar(data, label_count)
    np.testing.assert_array_equal(parsed[0], images)
    np.testing.assert_array_equal(parsed[1], labels)
    for wrong in (data[:-1], b""):
        with pytest.raises(UserError, match=r"has records of 307[34] bytes"):
            parse_cifar(wrong, label_count)


def test_a_damaged_cifar_archive_is_refused(tmp_path):
    path = make_cifar(tmp_path / "x.tar.gz", {"a.bin": os.urandom(5000)})
    assert len(read_cifar_archive(path)["a.bin"]) == 5000
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UserError, match=r"x\.tar\.gz is damaged or truncated"):
        read_cifar_archive(path)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_is_prepared_from_its_archive(name, tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    if name == "cifar10":
        parts = {f"data_batch_{n}.bin": cifar_records(3, 1, n) for n in range(1, 6)}
        parts["test_batch.bin"] = cifar_records(4, 1, 9)
        names = {"batches.meta.txt": "\n".join(f"kind{n}" for n in range(10)) + "\n\n"}
    else:
        parts = {"train.bin": cifar_records(15, 2, 1), "test.bin": cifar_records(4, 2, 9)}
        names = {
            "fine_label_names.txt": "\n".join(f"kind{n}" for n in range(100)) + "\n",
            "coarse_label_names.txt": "\n".join(f"family{n}" for n in range(20)) + "\n",
        }
    files = {file: data for file, (_, _, data) in parts.items()}
    files |= {file: text.encode() for file, text in names.items()}
    builder = tfds.builder_cls(name)
    ((url, _),) = builder.url_infos.items()
    path = make_cifar(tmp_path / os.path.basename(url), files)
    recorded = tfds.download.checksums.compute_url_info(path)
    monkeypatch.setattr(builder, "url_infos", {url: recorded})

    prepare_dataset(name, source_dir=tmp_path, data_dir=tmp_path / "tfds")
    dataset = load_dataset(name, data_dir=tmp_path / "tfds")
    assert dataset.class_names[:3] == ("kind0", "kind1", "kind2")
    assert dataset.num_classes == (10 if name == "cifar10" else 100)
    *train, test = parts.values()
    for source, expected in ((dataset.train, train), (dataset.test, [test])):
        images = np.concatenate([images for images, _, _ in expected])
        labels = np.concatenate([labels[:, -1] for _, labels, _ in expected])  # the fine one
        pairs = sorted(zip(map(bytes, images), labels))
        assert sorted(zip(map(bytes, source.images), source.labels)) == pairs
    record = tfds.data_source(name, split="test", data_dir=tmp_path / "tfds")[0]
    assert record["id"].startswith(b"test_0000") or record["id"].startswith("test_0000")
    assert ("coarse_label" in record) == (name == "cifar100")
