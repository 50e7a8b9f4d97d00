"""TensorFlow Datasets' sets, read from array_record files without TensorFlow."""

import contextlib
import dataclasses
import os
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from convnets.errors import UserError, first_line, unknown

from .dataset import Dataset
from .decoding import decode_image
from .folders import DEFAULT_SIZE, TEST_SHARE
from .sources import Source, decode_in_threads
from .splitting import split_validation

NAME = re.compile(r"(?P<name>\w+)(?:/(?P<config>[\w.\-]+))?(?::(?P<version>\d+\.\d+\.\d+))?")
VERSION = re.compile(r"\d+\.\d+\.\d+")


class CatalogName(NamedTuple):
    """`name`, `name/config`, `name:version` or `name/config:version`, taken apart."""

    name: str
    config: str | None
    version: str | None


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class RecordSource(Source):
    """Examples of an array_record split, read and decoded in threads when a batch is asked for.

    Args:
      records: gives serialized `tf.train.Example`s by `records.__getitems__(positions)`.
      positions: int64 `[N]`, the records that make up this source.
      name: what to call the set in an error.
      keys: the names of the image and of the label in an example.
      num_classes: labels are 0 to `num_classes - 1`.
      image_shape: `(H, W, C)` that every image comes in.
      resize: bring images of other sizes to it; otherwise they are refused.
    """

    records: object
    positions: np.ndarray
    name: str
    keys: tuple[str, str]
    num_classes: int
    image_shape: tuple[int, int, int]
    resize: bool

    labels = None  # only reading all records would tell

    def __len__(self) -> int:
        return len(self.positions)

    def batch(self, indices, crops=None) -> dict[str, np.ndarray]:
        positions = self.positions[indices].tolist()
        images, labels = self._read(positions)
        wrong = np.flatnonzero((labels < 0) | (labels >= self.num_classes))
        if len(wrong):
            raise UserError(
                f"labels out of range: record {positions[wrong[0]]} of {self.name} has the label "
                f"{labels[wrong[0]]}, expected 0 to {self.num_classes - 1}"
            )

        def decode(index):
            name, crop = f"record {positions[index]} of {self.name}", crops and crops[index]
            return decode_image(
                images[index], name, self.image_shape, resize=self.resize, crop=crop
            )

        return {
            "image": decode_in_threads(decode, len(positions), self.image_shape),
            "label": labels.astype(np.int32),
        }

    def select(self, indices) -> "RecordSource":
        return dataclasses.replace(self, positions=self.positions[indices])

    def has_labels(self) -> bool:
        """Whether the first record has a class; the test splits of contests come without."""
        _, labels = self._read(self.positions[:1].tolist())
        return bool(labels[0] >= 0)

    def _read(self, positions) -> tuple[list[bytes], np.ndarray]:
        from tensorflow_datasets.proto import tf_example_pb2

        image_key, label_key = self.keys
        images, labels = [], []
        with _whole(self.name):
            for record in self.records.__getitems__(positions):
                features = tf_example_pb2.Example.FromString(record).features.feature
                if image_key not in features or label_key not in features:
                    raise ValueError("a record without image or label")
                images.append(features[image_key].bytes_list.value[0])
                labels.append(features[label_key].int64_list.value[0])
        return images, np.array(labels, np.int64)


@contextlib.contextmanager
def _whole(name):
    """What TensorFlow Datasets and array_record raise on damaged files is the user's to know."""
    try:
        yield
    except (ImportError, MemoryError, PermissionError):
        raise  # nothing that removing files would mend
    except Exception as error:  # of many kinds, in array_record, protobuf and TFDS itself
        raise UserError(
            f"the files of {name} are damaged or missing: {first_line(error)}; remove them and "
            "prepare again"
        ) from None


def load_catalog(name: str, data_dir=None, image_size: tuple[int, int] | None = None) -> Dataset:
    """A set of TensorFlow Datasets by its name: `mnist`, `cifar10:3.0.2`, `name/config:version`.

    It is read from `data_dir`, else `TFDS_DATA_DIR`, else `~/tensorflow_datasets`, as it was
    prepared there in the format array_record; nothing is downloaded. `validation` serves as test
    where `test` is missing or has no labels; a fixed random fifth of `train` where both are. Images
    whose size the set does not fix are scaled to cover `image_size` (default 224x224) and cropped.

    Raises: UserError for an unknown name (with the nearest), and for a set that is not prepared,
    only there as tfrecord, or not of images in classes (with what to do).
    """
    import tensorflow_datasets as tfds

    folder = find_prepared(name, data_dir)
    with _whole(name):
        builder = tfds.builder_from_directory(str(folder))
    info = builder.info
    if "array_record" not in {format.value for format in info.available_file_formats()}:
        raise UserError(
            f"{name} is in {folder} only as {info.file_format.value}, which has no random access; "
            f"`{prepare_command(name, data_dir)}` converts it"
        )
    keys, image_shape, resize, notes = _image_features(name, info, image_size)
    class_feature = info.features[keys[1]]
    sources = {}
    for split in {"train", "validation", "test"} & set(info.splits):
        with _whole(name):
            records = builder.as_data_source(
                split=split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
            )
        sources[split] = RecordSource(
            records,
            np.arange(len(records)),
            f"{name}, split {split}",
            keys,
            class_feature.num_classes,
            image_shape,
            resize,
        )
    train, validation, test, more = _choose_splits(name, sources)
    names = tuple(class_feature.names)
    return Dataset(name, train, validation, test, names, notes=notes + more)


def _choose_splits(name, sources):
    """train, validation, test, and notes on what stands for what."""
    if "train" not in sources:
        raise UserError(f"{name} has no train split, only: {', '.join(sources) or 'others'}")
    train, validation, test = (sources.get(split) for split in ("train", "validation", "test"))
    if test is not None and not test.has_labels():
        test = None
    if test is not None:
        return train, validation, test, ()
    if validation is not None:
        note = "there is no test split with labels: the validation split serves as test split"
        return train, None, validation, (note,)
    train, test = split_validation(train, TEST_SHARE)
    note = f"there is no test split: a fixed random {TEST_SHARE:.0%} of train is the test split"
    return train, None, test, (note,)


def _image_features(name, info, image_size):
    """The keys of image and label, the shape of the images, whether to resize, and notes."""
    import tensorflow_datasets as tfds

    keys = info.supervised_keys or ("image", "label")
    features = dict(info.features.items())
    image, label = (features.get(key) if isinstance(key, str) else None for key in keys[:2])
    if not (isinstance(image, tfds.features.Image) and isinstance(label, tfds.features.ClassLabel)):
        raise UserError(
            f"{name} is not a set of images with one class each; its features are "
            f"{', '.join(features)}"
        )
    if image.np_dtype != np.uint8:
        raise UserError(f"the images of {name} are {image.np_dtype}, expected uint8")
    *native, channels = image.shape
    notes = ()
    if None in native:
        size = image_size or DEFAULT_SIZE
        notes = (
            f"the images have different sizes: each is scaled to cover {size[0]}x{size[1]} and its "
            "center is cropped",
        )
    else:
        size = image_size or tuple(native)
    resize = None in native or image_size is not None
    return keys[:2], (*size, channels or 3), resize, notes


def parse_name(name: str) -> CatalogName:
    """Takes a name apart; raises UserError if it is not of such a form."""
    match = NAME.fullmatch(name)
    if match is None:
        raise unknown_dataset(name)
    return CatalogName(**match.groupdict())


def catalog_dir(data_dir=None) -> Path:
    """Where TensorFlow Datasets keeps its sets: as given, or by its own rules."""
    return Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def prepare_command(name: str, data_dir=None) -> str:
    """The shell command that prepares a set."""
    return f"convnets data prepare {name}" + (f" --data-dir {data_dir}" if data_dir else "")


def unknown_dataset(name: str) -> UserError:
    """The error for a name that no data set has, with the nearest."""
    import difflib

    import tensorflow_datasets as tfds

    names = ["digits", *tfds.list_builders(with_community_datasets=False)]
    if difflib.get_close_matches(name, names, n=1):
        return unknown("data set", name, names)
    hint = f"; for a folder of images write folder:{name}" if os.path.isdir(name) else ""
    hint = f"; for that file write npz:{name}" if os.path.isfile(name) else hint
    return UserError(
        f"unknown data set {name!r}{hint}; known: digits, folder:PATH, npz:PATH, idx:PATH, and the "
        "image sets of TensorFlow Datasets (mnist, cifar10, imagenet2012, …)"
    )


def find_prepared(name: str, data_dir=None) -> Path:
    """The folder `…/name[/config]/version` of a prepared set.

    The newest version, and the only configuration, if none is named.

    Raises: UserError for an unknown name, and with the command to type if it is not prepared.
    """
    parsed = parse_name(name)
    root = catalog_dir(data_dir) / parsed.name
    versions = _versions(root, parsed.config)
    if versions and parsed.version in (None, *versions):
        version = parsed.version or max(versions, key=lambda text: [*map(int, text.split("."))])
        return versions[version]
    if not root.is_dir():
        import tensorflow_datasets as tfds

        if parsed.name not in tfds.list_builders(with_community_datasets=False):
            raise unknown_dataset(parsed.name)
    there = f" (there: {', '.join(sorted(versions))})" if versions else ""
    raise UserError(
        f"the data set {name} is not prepared in {catalog_dir(data_dir)}{there}; "
        f"`{prepare_command(name, data_dir)}` does it; if it lies elsewhere, name that folder"
    )


def _versions(root, config) -> dict[str, Path]:
    """The prepared versions under `root`, of the only configuration there if none is named."""
    if config is None and not _version_folders(root):
        configs = [path for path in sorted(root.glob("[!.]*")) if _version_folders(path)]
        if len(configs) > 1:
            names = ", ".join(f"{root.name}/{path.name}" for path in configs)
            raise UserError(f"{root.name} is there in several configurations; name one of {names}")
        return _version_folders(configs[0]) if configs else {}
    return _version_folders(root / config if config else root)


def _version_folders(root) -> dict[str, Path]:
    # A set that is still being prepared, or was left half made, has another folder name.
    return {
        path.name: path
        for path in root.glob("*")
        if VERSION.fullmatch(path.name) and (path / "dataset_info.json").is_file()
    }
