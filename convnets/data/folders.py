"""A folder of images for each class."""

import collections
import dataclasses
import os
from pathlib import Path

import numpy as np

from convnets.errors import UserError

from .dataset import Dataset
from .decoding import SUFFIXES, decode_image, read_bytes, read_header
from .sources import Source, decode_in_threads, map_in_threads
from .splitting import split_validation

DEFAULT_SIZE = (224, 224)  # where images of different sizes have to be brought to one
HEADERS = 20_000  # files looked into at most before anything is decoded
TEST_SHARE = 0.2
VALIDATION_NAMES = ("validation", "val")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class FileSource(Source):
    """Image files, decoded in threads when a batch is asked for.

    Args:
      paths: `N` file names.
      labels: integers `[N]`.
      image_shape: `(H, W, C)` that every image comes in.
      resize: bring images of other sizes to it (`resize_image`); otherwise they are refused.
    """

    paths: np.ndarray
    labels: np.ndarray
    image_shape: tuple[int, int, int]
    resize: bool = False

    def __post_init__(self):
        object.__setattr__(self, "paths", np.asarray(self.paths, object))
        object.__setattr__(self, "labels", np.asarray(self.labels, np.int32))

    def __len__(self) -> int:
        return len(self.paths)

    def batch(self, indices, crops=None) -> dict[str, np.ndarray]:
        paths = self.paths[indices]

        def decode(index):
            data, crop = read_bytes(paths[index]), crops and crops[index]
            return decode_image(data, paths[index], self.image_shape, resize=self.resize, crop=crop)

        images = decode_in_threads(decode, len(paths), self.image_shape)
        return {"image": images, "label": self.labels[indices]}

    def select(self, indices) -> "FileSource":
        return dataclasses.replace(self, paths=self.paths[indices], labels=self.labels[indices])


def load_folder(path, image_size: tuple[int, int] | None = None) -> Dataset:
    """`PATH/train/CLASS/*.jpg` and `PATH/test/CLASS/*.jpg`, or `PATH/CLASS/*.jpg`.

    Classes are the folders' names, sorted. `validation/` or `val/` beside `train/` is the
    validation split, or the test split where there is no `test/`; without either, and for
    `PATH/CLASS`, a fixed stratified fifth is the test split, the same for every seed. Hidden files
    and `Thumbs.db` are passed over, so are files beside the class folders that are no images.

    If all images have one size they keep it; otherwise each is scaled until it just covers
    `image_size` (default 224x224) and its center cropped. Grey images among color, transparency,
    palettes, CMYK and 16 bits are converted, and `notes` says so. To know this the header of every
    file is read; of a set of more than 20,000 files, of at most as many, evenly spread.

    Raises: UserError for a missing or empty folder, a file in a class folder that is no image, and
    a class of another split that `train` does not have. A damaged image is refused when it is
    decoded.
    """
    root = Path(path)
    if not root.is_dir():
        raise UserError(f"there is no folder {path}")
    folders = _find_splits(root)
    class_names = _class_folders(folders["train"])
    splits = {split: _list_split(folder, class_names) for split, folder in folders.items()}
    image_shape, resize, notes = _choose_shape(splits, image_size)
    sources = {
        split: FileSource(paths, labels, image_shape, resize)
        for split, (paths, labels) in splits.items()
    }
    validation, test = sources.get("validation"), sources.get("test")
    train = sources["train"]
    if test is None and validation is not None:
        validation, test = None, validation
        notes += ("there is no test folder: the validation folder serves as test split",)
    elif test is None:
        train, test = split_validation(train, TEST_SHARE)
        notes += (
            f"there is no test folder: a fixed {TEST_SHARE:.0%} of each class is the test split",
        )
    return Dataset(f"folder:{path}", train, validation, test, tuple(class_names), notes=notes)


def _find_splits(root):
    if not (root / "train").is_dir():
        return {"train": root}
    folders = {"train": root / "train"}
    if (root / "test").is_dir():
        folders["test"] = root / "test"
    for name in VALIDATION_NAMES:
        if (root / name).is_dir():
            folders["validation"] = root / name
            break
    return folders


def _list_entries(folder):
    clutter = ("Thumbs.db", "desktop.ini", "__MACOSX")
    with os.scandir(folder) as entries:
        return [
            entry
            for entry in entries
            if not entry.name.startswith(".") and entry.name not in clutter
        ]


def _class_folders(folder):
    """The names of the class folders, sorted."""
    entries = _list_entries(folder)
    names = sorted(entry.name for entry in entries if entry.is_dir())
    stray = sorted(
        entry.name for entry in entries if not entry.is_dir() and _has_image_suffix(entry.name)
    )
    if not names or stray:
        came = f"{folder / stray[0]} lies beside them" if stray else f"there are none in {folder}"
        raise UserError(f"expected folders of images, one for each class; {came}")
    return names


def _has_image_suffix(name):
    return name.lower().endswith(SUFFIXES)


def _list_split(folder, class_names):
    """Paths and labels of a split, in the order of classes and file names."""
    new = sorted(set(_class_folders(folder)) - set(class_names))
    if new:
        raise UserError(f"{folder / new[0]} is a class that the train split does not have")
    paths, labels = [], []
    for label, name in enumerate(class_names):
        if not (folder / name).is_dir():
            continue  # a class may be missing from a test split
        found = _list_class(folder / name)
        if not found:
            raise UserError(f"there is no image in {folder / name}")
        paths += found
        labels += [label] * len(found)
    return paths, labels


def _list_class(folder):
    found = []
    for entry in _list_entries(folder):
        if not entry.is_file() or not _has_image_suffix(entry.name):
            other = "no image by its name" if entry.is_file() else "no regular file"
            kind = "a folder" if entry.is_dir() else other
            raise UserError(f"{entry.path} is {kind}; expected files {' '.join(SUFFIXES)}")
        found.append(entry.path)
    return sorted(found)


def _choose_shape(splits, image_size):
    """The shape of all images, whether they have to be resized to it, and notes on conversions."""
    paths = [path for paths, _ in splits.values() for path in paths]
    looked_at = paths[:: -(-len(paths) // HEADERS)]
    headers = map_in_threads(read_header, looked_at)
    sizes = collections.Counter((header.height, header.width) for header in headers)
    counts = collections.Counter(trait for header in headers for trait in header.traits)
    notes = []
    if len(sizes) > 1:
        size = image_size or DEFAULT_SIZE
        notes.append(
            f"the images have different sizes: each is scaled to cover {size[0]}x{size[1]} and its "
            "center is cropped (image_size sets that)"
        )
    else:
        (native,) = sizes
        size = image_size or native
        if size != native:
            notes.append(f"images of {native[0]}x{native[1]} are brought to {size[0]}x{size[1]}")
    channels = 3 if counts["color"] else 1
    conversions = {
        "grey images are made RGB": len(headers) - counts["color"] if channels == 3 else 0,
        "images with a palette are made RGB": counts["palette"],
        "CMYK images are made RGB": counts["CMYK"],
        "images with transparency are laid on white": counts["transparency"],
        "16-bit images keep their high byte": counts["16-bit"],
    }
    among = "" if len(looked_at) == len(paths) else f" (of {len(looked_at)} looked at)"
    notes += [f"{count} {what}{among}" for what, count in conversions.items() if count]
    resize = len(sizes) > 1 or image_size is not None
    return (*size, channels), resize, tuple(notes)
