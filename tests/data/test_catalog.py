import json
import subprocess
import sys

import numpy as np
import pytest

from convnets.data import batch_indices, batches, load_dataset, loading, random_resized_crop
from convnets.data.catalog import RecordSource
from convnets.data.cropping import crop_and_resize, draw_for_crops
from convnets.errors import UserError

from .records import make_examples, write_catalog

TRAIN, TEST = make_examples(20), make_examples(7, seed=1)


def test_a_prepared_set(tmp_path, monkeypatch):
    write_catalog(tmp_path / "mnist" / "3.0.1", {"train": TRAIN, "test": TEST})
    dataset = load_dataset("mnist", data_dir=tmp_path)
    np.testing.assert_array_equal(dataset.train.images, TRAIN[0])
    np.testing.assert_array_equal(dataset.train.labels, TRAIN[1])
    np.testing.assert_array_equal(dataset.test.images, TEST[0])
    assert dataset.class_names == ("0", "1", "2")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    np.testing.assert_array_equal(load_dataset("mnist:3.0.1").test.images, TEST[0])
    assert load_dataset("mnist", image_size=4).image_shape == (4, 4, 1)


def test_a_large_set_is_decoded_by_the_batch(tmp_path, monkeypatch):
    write_catalog(tmp_path / "mine" / "1.0.0", {"train": TRAIN, "test": TEST})
    monkeypatch.setattr(loading, "IN_MEMORY_BYTES", 100)
    dataset = load_dataset("mine", data_dir=tmp_path, validation=0.25)
    assert isinstance(dataset.train, RecordSource)
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (15, 5, 7)
    batch = dataset.test.batch([6, 2])
    np.testing.assert_array_equal(batch["image"], TEST[0][[6, 2]])
    assert batch["label"].dtype == np.int32
    assert batch["label"].tolist() == TEST[1][[6, 2]].tolist()
    both = [dataset.train, dataset.validation]
    seen = np.concatenate([part.batch(np.arange(len(part)))["image"] for part in both])
    assert sorted(map(bytes, seen)) == sorted(map(bytes, TRAIN[0]))


def test_parts_are_taken_from_the_records_where_images_were_brought_to_a_size(tmp_path):
    examples = make_examples(20, shape=(30, 40, 3))
    write_catalog(
        tmp_path / "mine" / "1.0.0", {"train": examples, "test": examples}, shape=(30, 40, 3)
    )
    own = load_dataset("mine", data_dir=tmp_path).train
    assert own.original is own
    smaller = load_dataset("mine", data_dir=tmp_path, image_size=8).train
    assert isinstance(smaller.original, RecordSource)
    batch = next(batches(smaller, 5, crop=random_resized_crop)(1))
    assert batch["image"].shape == (5, 8, 8, 3)
    indices = batch_indices(20, 5, 1)
    np.testing.assert_array_equal(batch["label"], examples[1][indices])
    for image, index, draws in zip(batch["image"], indices, draw_for_crops(0, 5, 5)):
        box = random_resized_crop(draws, 30, 40)
        np.testing.assert_array_equal(image, crop_and_resize(examples[0][index], box, 8, 8))


def test_versions_and_configurations(tmp_path):
    for version, count in (("1.2.0", 5), ("1.10.0", 6)):
        examples = make_examples(count)
        write_catalog(tmp_path / "mine" / version, {"train": examples, "test": TEST})
    assert len(load_dataset("mine", data_dir=tmp_path).train) == 6  # 1.10 is the newer
    assert len(load_dataset("mine:1.2.0", data_dir=tmp_path).train) == 5
    (tmp_path / "mine" / "incomplete.XYZ_2.0.0").mkdir()
    (tmp_path / "mine" / "2.0.0").mkdir()  # left half made
    assert len(load_dataset("mine", data_dir=tmp_path).train) == 6
    with pytest.raises(UserError, match=r"mine:2.0.0 is not prepared .*\(there: 1.10.0, 1.2.0\)"):
        load_dataset("mine:2.0.0", data_dir=tmp_path)
    folder = write_catalog(tmp_path / "letters" / "1.0.0", {"train": TRAIN, "test": TEST})
    (tmp_path / "emnist").mkdir()
    folder.parent.rename(tmp_path / "emnist" / "letters")
    assert len(load_dataset("emnist/letters", data_dir=tmp_path).train) == 20
    assert len(load_dataset("emnist", data_dir=tmp_path).train) == 20  # the only one there
    write_catalog(tmp_path / "emnist" / "digits" / "1.0.0", {"train": TRAIN, "test": TEST})
    with pytest.raises(UserError, match=r"several configurations.*emnist/digits, emnist/letters"):
        load_dataset("emnist", data_dir=tmp_path)


def test_what_serves_as_test(tmp_path):
    write_catalog(tmp_path / "a" / "1.0.0", {"train": TRAIN, "validation": TEST})
    dataset = load_dataset("a", data_dir=tmp_path)
    assert dataset.validation is None
    np.testing.assert_array_equal(dataset.test.images, TEST[0])
    assert "the validation split serves as test split" in dataset.notes[0]
    unlabeled = (TRAIN[0], np.full(20, -1))
    splits = {"train": TRAIN, "validation": TEST, "test": unlabeled}
    write_catalog(tmp_path / "b" / "1.0.0", splits)
    np.testing.assert_array_equal(load_dataset("b", data_dir=tmp_path).test.images, TEST[0])
    write_catalog(tmp_path / "c" / "1.0.0", {"train": TRAIN})
    dataset = load_dataset("c", data_dir=tmp_path)
    assert (len(dataset.train), len(dataset.test)) == (16, 4)
    assert "a fixed random 20%" in dataset.notes[0]
    write_catalog(tmp_path / "d" / "1.0.0", {"train": TRAIN, "validation": TEST, "test": TEST})
    assert len(load_dataset("d", data_dir=tmp_path).validation) == 7


def test_sizes_that_the_set_does_not_fix(tmp_path):
    examples = make_examples(6, shape=(9, 7, 3))
    splits = {"train": examples, "test": examples}
    write_catalog(tmp_path / "mine" / "1.0.0", splits, shape=(None, None, 3))
    dataset = load_dataset("mine", data_dir=tmp_path)
    assert dataset.image_shape == (224, 224, 3)
    assert "scaled to cover 224x224" in dataset.notes[0]
    dataset = load_dataset("mine", data_dir=tmp_path, image_size=(9, 5))
    np.testing.assert_array_equal(dataset.train.images, examples[0][:, :, 1:6])


def test_names_that_are_not_there(tmp_path, monkeypatch):
    def load(name):
        load_dataset(name, data_dir=tmp_path)

    with pytest.raises(UserError, match=r"unknown data set 'mnits'; did you mean 'mnist'\?"):
        load("mnits")
    with pytest.raises(UserError, match="did you mean 'fashion_mnist'"):
        load("fashion-mnist")
    with pytest.raises(UserError, match="did you mean 'digits'"):
        load("digit")
    with pytest.raises(UserError, match="unknown data set 'qqqq:1'; known: digits, folder:PATH"):
        load("qqqq:1")
    (tmp_path / "qphotos").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"for a folder of images write folder:./qphotos"):
        load("./qphotos")
    command = f"`convnets data prepare kmnist --data-dir {tmp_path}`"
    with pytest.raises(UserError, match=f"kmnist is not prepared in {tmp_path}; {command}"):
        load("kmnist")


def test_sets_that_do_not_fit_are_refused(tmp_path):
    wrong = (TRAIN[0], np.arange(20))
    write_catalog(tmp_path / "labels" / "1.0.0", {"train": TRAIN, "test": wrong})
    with pytest.raises(
        UserError, match=r"record 3 of labels, split test has the label 3, .* 0 to 2"
    ):
        load_dataset("labels", data_dir=tmp_path)
    folder = write_catalog(tmp_path / "text" / "1.0.0", {"train": TRAIN})
    features = json.loads((folder / "features.json").read_text())
    features["featuresDict"]["features"]["image"] = {
        "pythonClassName": "tensorflow_datasets.core.features.text_feature.Text",
        "text": {},
    }
    (folder / "features.json").write_text(json.dumps(features))
    with pytest.raises(UserError, match="not a set of images with one class each"):
        load_dataset("text", data_dir=tmp_path)
    examples = {"train": TRAIN, "test": TEST}
    write_catalog(tmp_path / "old" / "1.0.0", examples, file_format="tfrecord")
    with pytest.raises(
        UserError, match=r"only as tfrecord.*`convnets data prepare old .* converts"
    ):
        load_dataset("old", data_dir=tmp_path)


@pytest.mark.parametrize("file", ["mine-train.array_record-00000-of-00001", "dataset_info.json"])
def test_damaged_files_are_refused(file, tmp_path):
    path = write_catalog(tmp_path / "mine" / "1.0.0", {"train": TRAIN, "test": TEST}) / file
    data = path.read_bytes()
    middle = len(data) // 2
    for damaged in (data[:middle], data[:70] + bytes(100) + data[170:]):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"the files of mine.* are damaged or missing"):
            load_dataset("mine", data_dir=tmp_path)


def test_real_mnist_equals_the_original_archives(shared):
    dataset = load_dataset("mnist", data_dir=shared / "data" / "tfds")
    original = load_dataset(f"idx:{shared / 'data' / 'mnist'}")
    for split in ("train", "test"):
        here, there = (
            sorted(
                image.tobytes() + bytes([label])
                for image, label in zip(source.images, source.labels)
            )
            for source in (getattr(dataset, split), getattr(original, split))
        )
        assert here == there
    assert dataset.normalization == original.normalization


def test_nothing_heavy_is_imported_to_read(tmp_path):
    write_catalog(tmp_path / "mnist" / "3.0.1", {"train": TRAIN, "test": TEST})
    script = (
        "import sys; from convnets.data import load_dataset\n"
        "light = {'tensorflow_datasets', 'grain', 'sklearn', 'cv2', 'PIL'} & set(sys.modules)\n"
        f"load_dataset('mnist', data_dir={str(tmp_path)!r})\n"
        "heavy = {'tensorflow', 'torch', 'matplotlib', 'ray', 'grain'} & set(sys.modules)\n"
        "print(light, heavy)"
    )
    command = [sys.executable, "-W", "error", "-c", script]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout == "set() set()\n"
    assert result.stderr == ""
