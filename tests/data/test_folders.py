import numpy as np
import pytest
from PIL import Image

from convnets.data import FileSource, in_memory, load_dataset, loading
from convnets.errors import UserError


def save(path, value=100, size=(8, 6), mode="RGB"):
    """An image of one color; `size` is (width, height) as in Pillow."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode in ("L", "I;16") else (value,) * len(mode)).save(path)


@pytest.fixture
def root(tmp_path):
    """Three images of each of two classes to train on, one each to test."""
    for split, count in (("train", 3), ("test", 1)):
        for value, name in ((50, "cat"), (200, "dog")):
            for number in range(count):
                save(tmp_path / split / name / f"{number}.png", value + number)
    return tmp_path


def values(source):
    return sorted(in_memory(source).images[:, 0, 0, 0].tolist())


def test_train_and_test_folders(root):
    for clutter in (".DS_Store", "Thumbs.db", ".hidden.png"):
        (root / "train" / "cat" / clutter).write_text("clutter")
    (root / "train" / ".git").mkdir()
    (root / "train" / "labels.csv").write_text("a,b")
    (root / "labels.csv").write_text("a,b")
    dataset = load_dataset(f"folder:{root}")
    assert dataset.class_names == ("cat", "dog")
    assert dataset.image_shape == (6, 8, 3)
    assert values(dataset.train) == [50, 51, 52, 200, 201, 202]
    assert dataset.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert values(dataset.test) == [50, 200]
    assert dataset.validation is None
    assert dataset.notes == ()


@pytest.mark.parametrize("name", ["validation", "val"])
def test_a_validation_folder_is_used_or_serves_as_test(root, name):
    save(root / name / "dog" / "x.png", 7)
    dataset = load_dataset(f"folder:{root}", validation=0.5)
    assert values(dataset.validation) == [7]
    assert values(dataset.train) == [50, 51, 52, 200, 201, 202]
    assert "own validation split" in dataset.notes[-1]
    (root / "test").rename(root / ".test")
    dataset = load_dataset(f"folder:{root}")
    assert dataset.validation is None
    assert values(dataset.test) == [7]
    assert dataset.test.labels.tolist() == [1]
    assert "validation folder serves as test split" in dataset.notes[0]


def test_classes_without_splits_get_a_fixed_stratified_one(tmp_path):
    for label, name in enumerate(["b", "a"]):
        for number in range(10):
            save(tmp_path / name / f"{number}.png", 100 * label + number)
    first, second = (load_dataset(f"folder:{tmp_path}", seed=seed) for seed in (0, 1))
    assert first.class_names == ("a", "b")
    assert np.bincount(first.test.labels).tolist() == [2, 2]
    assert values(first.test) == values(second.test)
    assert sorted(values(first.test) + values(first.train)) == [*range(10), *range(100, 110)]
    assert "a fixed 20% of each class is the test split" in first.notes[0]
    # The share for validation is of what is left, follows the seed, and never touches the test.
    first, second = (load_dataset(f"folder:{tmp_path}", validation=0.25, seed=s) for s in (0, 1))
    assert np.bincount(first.validation.labels).tolist() == [2, 2]
    assert values(first.validation) != values(second.validation)
    assert values(first.test) == values(second.test)
    assert len(set(values(first.validation) + values(first.test) + values(first.train))) == 20


def test_images_of_other_kinds_are_converted_and_counted(root):
    save(root / "train" / "cat" / "grey.png", 60, mode="L")
    save(root / "train" / "cat" / "clear.png", 0, mode="RGBA")
    save(root / "train" / "dog" / "deep.png", 60 * 256, mode="I;16")
    dataset = load_dataset(f"folder:{root}")
    assert dataset.image_shape == (6, 8, 3)
    assert values(dataset.train) == [50, 51, 52, 60, 60, 200, 201, 202, 255]
    assert dataset.notes == (
        "2 grey images are made RGB",
        "1 images with transparency are laid on white",
        "1 16-bit images keep their high byte",
    )


def test_grey_images_alone_stay_grey(tmp_path):
    for name in "ab":
        for number in range(5):
            save(tmp_path / "train" / name / f"{number}.jpg", 90, mode="L")
            save(tmp_path / "test" / name / f"{number}.jpg", 90, mode="L")
    dataset = load_dataset(f"folder:{tmp_path}")
    assert dataset.image_shape == (6, 8, 1)
    assert dataset.notes == ()


def test_different_sizes_are_brought_to_one(root):
    save(root / "test" / "cat" / "wide.png", 10, size=(30, 6))
    dataset = load_dataset(f"folder:{root}")
    assert dataset.image_shape == (224, 224, 3)
    assert "different sizes: each is scaled to cover 224x224" in dataset.notes[0]
    dataset = load_dataset(f"folder:{root}", image_size=(4, 5))
    assert dataset.image_shape == (4, 5, 3)
    assert values(dataset.test) == [10, 50, 200]
    with pytest.raises(UserError, match="the image size is one or two positive integers"):
        load_dataset(f"folder:{root}", image_size=(4, 0))


def test_one_size_is_kept_or_brought_to_another(root):
    dataset = load_dataset(f"folder:{root}", image_size=5)
    assert dataset.image_shape == (5, 5, 3)
    assert dataset.notes == ("images of 6x8 are brought to 5x5",)


def write_text(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("text")


def truncate(path):
    save(path)
    path.write_bytes(path.read_bytes()[:-20])


BAD = {
    "no image by name": (lambda r: write_text(r / "train/cat/notes.txt"), r"cat/notes\.txt is no"),
    "no image inside": (lambda r: write_text(r / "train/cat/x.jpg"), r"cat/x\.jpg is not an image"),
    "truncated JPEG": (lambda r: truncate(r / "test/dog/cut.jpg"), r"dog/cut\.jpg is .*truncated"),
    "truncated PNG": (lambda r: truncate(r / "test/dog/cut.png"), r"dog/cut\.png is .*truncated"),
    "folder in class": (lambda r: save(r / "train/cat/more/x.png"), "cat/more is a folder"),
    "beside classes": (lambda r: save(r / "train/x.png"), r"train/x\.png lies beside them"),
    "empty class": (lambda r: (r / "train/bird").mkdir(), "there is no image in .*bird"),
    "new in test": (lambda r: save(r / "test/bird/x.png"), "test/bird is a class that the train"),
}


@pytest.mark.parametrize("case", BAD)
def test_folders_refuse(case, root):
    spoil, message = BAD[case]
    spoil(root)
    with pytest.raises(UserError, match=message):
        load_dataset(f"folder:{root}")


def test_a_folder_that_is_missing_or_empty_or_has_one_class(tmp_path):
    with pytest.raises(UserError, match="there is no folder"):
        load_dataset(f"folder:{tmp_path / 'nowhere'}")
    with pytest.raises(UserError, match=r"expected folders of images.*there are none in"):
        load_dataset(f"folder:{tmp_path}")
    (tmp_path / "train").mkdir()
    with pytest.raises(UserError, match=r"there are none in .*train"):
        load_dataset(f"folder:{tmp_path}")
    for number in range(5):
        save(tmp_path / "train" / "cat" / f"{number}.png")
    with pytest.raises(UserError, match="only one class, 'cat'"):
        load_dataset(f"folder:{tmp_path}")


def test_a_large_set_is_decoded_by_the_batch(root, monkeypatch):
    whole = load_dataset(f"folder:{root}")
    monkeypatch.setattr(loading, "IN_MEMORY_BYTES", 100)
    dataset = load_dataset(f"folder:{root}", validation=0.34)
    assert isinstance(dataset.train, FileSource)
    assert values(dataset.train) + values(dataset.validation) != values(whole.train)
    assert sorted(values(dataset.train) + values(dataset.validation)) == values(whole.train)
    batch = dataset.test.batch([1, 0, 1])
    np.testing.assert_array_equal(batch["image"][:, 0, 0, 0], [200, 50, 200])
    assert batch["label"].tolist() == [1, 0, 1]
    path = root / "test" / "dog" / "0.png"
    path.unlink()
    with pytest.raises(UserError, match=r"cannot read .*dog/0\.png"):
        dataset.test.batch([1])
    save(path, size=(9, 9))
    with pytest.raises(UserError, match="is 9x9, the data set 6x8; give an image size"):
        dataset.test.batch([1])


def test_caltech(shared):
    dataset = load_dataset(f"folder:{shared / 'data' / 'caltech101_12_classes'}", image_size=32)
    assert dataset.class_names[:3] == ("Motorbikes", "airplanes", "bonsai")
    assert np.bincount(dataset.train.labels).tolist() == [32] * 12
    assert np.bincount(dataset.test.labels).tolist() == [8] * 12
    assert dataset.image_shape == (32, 32, 3)
    means = [in_memory(dataset.train).images[dataset.train.labels == c].mean() for c in range(12)]
    assert np.std(means) > 10  # photographs, not one and the same
