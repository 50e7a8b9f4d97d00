import numpy as np
import pytest

from convnets.data import conversion, load_dataset, prepare_dataset
from convnets.data.conversion import convert_to_array_record, read_tfrecord
from convnets.errors import UserError

from .records import make_examples, serialize, write_catalog

TRAIN, TEST = make_examples(20), make_examples(7, seed=1)


@pytest.fixture
def folder(tmp_path):
    splits = {"train": TRAIN, "test": TEST}
    return write_catalog(tmp_path / "mnist" / "3.0.1", splits, file_format="tfrecord")


def test_a_tfrecord_set_is_converted_by_prepare(folder, tmp_path):
    assert "as array_record now" in prepare_dataset("mnist", data_dir=tmp_path)
    dataset = load_dataset("mnist", data_dir=tmp_path)
    np.testing.assert_array_equal(dataset.train.images, TRAIN[0])
    np.testing.assert_array_equal(dataset.test.labels, TEST[1])
    assert (folder / "mnist-train.tfrecord-00000-of-00001").exists()
    before = sorted(path.stat().st_mtime_ns for path in folder.iterdir())
    assert "nothing was done" in prepare_dataset("mnist", data_dir=tmp_path)
    assert sorted(path.stat().st_mtime_ns for path in folder.iterdir()) == before


@pytest.mark.parametrize("cut", [1, 30])
def test_a_truncated_file_is_refused_and_nothing_changes(folder, tmp_path, cut):
    path = folder / "mnist-test.tfrecord-00000-of-00001"
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(UserError, match=r"mnist-test\.tfrecord.* is truncated"):
        prepare_dataset("mnist", data_dir=tmp_path)
    with pytest.raises(UserError, match="only as tfrecord"):
        load_dataset("mnist", data_dir=tmp_path)
    assert not list(folder.glob("incomplete.*"))


def test_a_file_with_other_records_is_refused(folder, tmp_path):
    path = folder / "mnist-test.tfrecord-00000-of-00001"
    records = list(read_tfrecord(path))
    assert records == [serialize(image, label) for image, label in zip(*TEST)]
    first = len(records[0]) + 16
    path.write_bytes(path.read_bytes()[:first])
    with pytest.raises(UserError, match="has 1 records; its set says 7"):
        convert_to_array_record(folder)


def test_a_kill_in_the_middle_leaves_the_set_unconverted(folder, tmp_path, monkeypatch):
    def killed(source, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(conversion.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        convert_to_array_record(folder)
    monkeypatch.undo()
    with pytest.raises(UserError, match="only as tfrecord"):
        load_dataset("mnist", data_dir=tmp_path)
    assert convert_to_array_record(folder)
    np.testing.assert_array_equal(load_dataset("mnist", data_dir=tmp_path).test.images, TEST[0])
