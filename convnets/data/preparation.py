"""Preparing TensorFlow Datasets' sets as array_record, the common ones without TensorFlow."""

import contextlib
import hashlib
import importlib.util
import os
import ssl
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from convnets.errors import UserError

from .arrays import IDX_FILES, read_idx
from .catalog import catalog_dir, find_prepared, parse_name, prepare_command, unknown_dataset
from .conversion import convert_to_array_record
from .decoding import encode_png


def prepare_dataset(name: str, *, source_dir=None, data_dir=None) -> str:
    """Prepares a set of TensorFlow Datasets for `load_dataset`, as array_record.

    `mnist`, `fashion_mnist`, `kmnist`, `cifar10` and `cifar100` need no TensorFlow: TensorFlow
    Datasets' own builders, download manager and checksums do the work, and get the images as PNG.
    Any other set is prepared by its builder if TensorFlow is installed. A set that is there already
    is left alone; one that is there as tfrecord is converted beside it, without TensorFlow. The set
    appears under its name when it is whole; a preparation that was cut off leaves nothing that is
    taken for one.

    Args:
      name: `NAME[/CONFIG][:VERSION]`.
      source_dir: a folder that holds the archives already, under their own names; nothing is
        downloaded then.
      data_dir: where to prepare it; else `TFDS_DATA_DIR`, else TFDS's default.

    Returns: one sentence that says what was done.

    Raises: UserError for an unknown name, an archive that is missing, cannot be downloaded (with
    what to do instead) or has another checksum than TensorFlow Datasets recorded, and a set that
    needs TensorFlow where there is none.
    """
    import tensorflow_datasets as tfds

    parsed = parse_name(name)
    if parsed.name not in tfds.list_builders(with_community_datasets=False):
        raise unknown_dataset(parsed.name)
    folder = _prepared_folder(name, data_dir)
    if folder is not None:
        if convert_to_array_record(folder):
            return f"{name} was in {folder} as tfrecord; it is there as array_record now, too"
        return f"{name} is prepared already in {folder}; nothing was done"
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    if parsed.name in EXAMPLES:
        folder = _prepare_without_tensorflow(name, source_dir, data_dir)
    else:
        folder = _prepare_with_tensorflow(name, source_dir, data_dir)
    return f"{name} is prepared in {folder}"


def _prepared_folder(name, data_dir):
    try:
        return find_prepared(name, data_dir)
    except UserError:
        return None


def _make_builder(name, data_dir):
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=catalog_dir(data_dir), file_format="array_record")
    except (AssertionError, ValueError, tfds.core.DatasetNotFoundError) as error:
        message = str(error).strip().splitlines()[0]
        raise UserError(f"TensorFlow Datasets cannot prepare {name}: {message}") from None
    if os.path.exists(builder.data_dir):  # TFDS would take it for a whole one
        raise UserError(f"{builder.data_dir} is there but holds no whole set; remove it first")
    return builder


def _prepare_without_tensorflow(name, source_dir, data_dir):
    import requests
    import tensorflow_datasets as tfds

    builder = _make_builder(name, data_dir)
    archives = {Path(url).name: (url, info) for url, info in builder.url_infos.items()}
    if source_dir is not None:
        _check_archives(archives, Path(source_dir))
    else:
        _check_connection(name, archives, data_dir)

    def split_generators(manager):
        paths = manager.download({file: url for file, (url, _) in archives.items()})
        return EXAMPLES[builder.name](builder, paths)

    # In the place of the builder's own, which extracts the archives with TensorFlow and gives
    # arrays for TensorFlow to encode. Everything else is TensorFlow Datasets' own.
    builder._split_generators = split_generators
    config = tfds.download.DownloadConfig(manual_dir=source_dir, try_download_gcs=False)
    with contextlib.ExitStack() as stack:
        scratch = source_dir and stack.enter_context(tempfile.TemporaryDirectory())
        try:
            builder.download_and_prepare(download_config=config, download_dir=scratch)
        except (tfds.download.DownloadError, requests.RequestException) as error:
            raise _cannot_download(name, archives, data_dir, error) from None
        except (tfds.download.download_manager.NonMatchingChecksumError, OSError) as error:
            raise UserError(f"{name} could not be prepared: {error}") from None
    return builder.data_dir


def _check_archives(archives, folder):
    """Refuses a folder in which an archive is missing, or is not the one that TFDS recorded."""
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}")
    missing = [file for file in archives if not (folder / file).is_file()]
    if missing:
        raise UserError(f"{folder} does not hold {', '.join(missing)}")
    for file, (_, info) in archives.items():
        with open(folder / file, "rb") as opened:
            checksum = hashlib.file_digest(opened, "sha256").hexdigest()
        if checksum != info.checksum:
            raise UserError(
                f"{folder / file} is not the archive expected: its SHA-256 is {checksum}, "
                f"TensorFlow Datasets recorded {info.checksum}; it is damaged or another version"
            )


def _check_connection(name, archives, data_dir):
    """One quick question to the server; TFDS's downloader itself would try for minutes."""
    url = next(url for url, _ in archives.values())
    request = urllib.request.Request(url, method="HEAD")
    try:
        urllib.request.urlopen(request, timeout=20).close()
    except urllib.error.HTTPError:
        pass  # it answers, if not to this question
    except (urllib.error.URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        if not isinstance(reason, ssl.SSLError):  # the downloader may know the certificate
            raise _cannot_download(name, archives, data_dir, reason) from None


def _cannot_download(name, archives, data_dir, reason):
    urls = "\n".join(f"  {url}" for url, _ in archives.values())
    return UserError(
        f"cannot download {name}: {reason}. Where there is a network, fetch\n{urls}\n"
        f"into one folder, and run `{prepare_command(name, data_dir)} --from FOLDER`"
    )


def _prepare_with_tensorflow(name, source_dir, data_dir):
    import tensorflow_datasets as tfds

    if importlib.util.find_spec("tensorflow") is None:
        raise UserError(
            f"preparing {name} needs TensorFlow, which is not installed (reading it does not): "
            f"`pip install tensorflow`, then again; without it there are {', '.join(EXAMPLES)}"
        )
    builder = _make_builder(name, data_dir)
    config = tfds.download.DownloadConfig(manual_dir=source_dir)
    try:
        builder.download_and_prepare(download_config=config)
    except Exception as error:  # each builder has its own; many say what to fetch by hand
        raise UserError(f"TensorFlow Datasets could not prepare {name}: {error}") from error
    return builder.data_dir


def _mnist_examples(builder, paths) -> dict[str, Iterator]:
    arrays = {key: read_idx(paths[f"{file}.gz"]) for key, file in IDX_FILES.items()}
    return {
        split: _png_examples(arrays[f"x_{split}"][..., None], {"label": arrays[f"y_{split}"]})
        for split in ("train", "test")
    }


def _png_examples(images, fields) -> Iterator[tuple[int, dict]]:
    """(key, example) pairs; the keys are TFDS's own, they decide the order on disk."""
    for index, image in enumerate(images):
        example = {name: values[index] for name, values in fields.items()}
        yield index, {"image": encode_png(image), **example}


def _cifar_examples(builder, paths) -> dict[str, Iterator]:
    cifar100 = builder.name == "cifar100"
    (archive,) = paths.values()
    labels = ("coarse_label", "label") if cifar100 else ("label",)
    files = read_cifar_archive(archive)
    names = {
        "coarse_label": "coarse_label_names.txt",
        "label": "fine_label_names.txt" if cifar100 else "batches.meta.txt",
    }
    for label in labels:
        lines = files[names[label]].decode().split("\n")
        builder.info.features[label].names = [line for line in lines if line]
    batches = [f"data_batch_{number}.bin" for number in range(1, 6)]
    members = {"train": ["train.bin"] if cifar100 else batches}
    members["test"] = ["test.bin"] if cifar100 else ["test_batch.bin"]
    return {
        split: _cifar_split(split, b"".join(files[member] for member in parts), labels)
        for split, parts in members.items()
    }


def _cifar_split(split, data, labels):
    images, columns = parse_cifar(data, len(labels))
    fields = {name: columns[:, column] for column, name in enumerate(labels)}
    fields["id"] = [f"{split}_{index:05d}" for index in range(len(images))]
    return _png_examples(images, fields)


def read_cifar_archive(path) -> dict[str, bytes]:
    """The files of CIFAR's binary `.tar.gz`, by their names without folder."""
    try:
        with tarfile.open(path) as archive:
            members = [member for member in archive if member.isfile()]
            return {
                os.path.basename(member.name): archive.extractfile(member).read()
                for member in members
            }
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise UserError(f"{path} is damaged or truncated: {error}") from None


def parse_cifar(data: bytes, label_count: int) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 `[N, 32, 32, 3]` and labels uint8 `[N, label_count]` of a CIFAR binary file.

    Reference: Krizhevsky's page on CIFAR: each record is its labels, then 32x32 red, green, blue.
    """
    size = label_count + 3 * 32 * 32
    if not data or len(data) % size:
        raise UserError(f"a CIFAR file has records of {size} bytes, not {len(data)} bytes in all")
    records = np.frombuffer(data, np.uint8).reshape(-1, size)
    images = records[:, label_count:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), records[:, :label_count]


# The sets that need no TensorFlow, each with its function (builder, paths of the archives by file
# name) -> {split: (key, example) pairs}.
EXAMPLES: dict[str, Callable] = {
    "mnist": _mnist_examples,
    "fashion_mnist": _mnist_examples,
    "kmnist": _mnist_examples,
    "cifar10": _cifar_examples,
    "cifar100": _cifar_examples,
}
