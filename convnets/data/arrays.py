"""Data sets that are arrays in files: NumPy's .npz and MNIST's idx archives."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from convnets.errors import UserError

from .dataset import Dataset
from .sources import ArraySource

NPZ_KEYS = ("x_train", "y_train", "x_test", "y_test")
IDX_FILES = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}


def load_npz(path) -> Dataset:
    """A `.npz` file with `x_train, y_train, x_test, y_test`.

    Images are uint8 `[N, H, W]` or `[N, H, W, C]`, labels integers `[N]` or `[N, 1]` from 0 on,
    each class at least once in `y_train`. Nothing is guessed: floats, one-hot labels and gaps in
    the numbering are refused, with what to do.
    """
    try:
        with open(path, "rb") as raw:
            file = np.load(raw, allow_pickle=False)
            if isinstance(file, np.ndarray):
                raise UserError(f"{path} holds a single array; expected {', '.join(NPZ_KEYS)}")
            missing = [key for key in NPZ_KEYS if key not in file]
            if missing:
                raise UserError(
                    f"{path} has no {', '.join(missing)}; expected {', '.join(NPZ_KEYS)}, "
                    f"came {', '.join(file.files)}"
                )
            arrays = {key: file[key] for key in NPZ_KEYS}
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"there is no file {path}") from None
    except Exception as error:  # of many kinds, for what a damaged archive may claim
        raise UserError(f"{path} is not a whole .npz file: {error}") from None
    return checked_dataset(f"npz:{path}", arrays, f" in {path}")


def load_idx(path) -> Dataset:
    """A folder with MNIST's four archives, packed (`.gz`) or not; `-idx3` may be spelled `.idx3`.

    Reference: LeCun's description of the format on the MNIST page: big-endian, two zero bytes, type
    8 (unsigned byte), the number of dimensions, the dimensions, the bytes.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise UserError(f"there is no folder {path}")
    arrays = {key: read_idx(_find_idx(folder, name)) for key, name in IDX_FILES.items()}
    return checked_dataset(f"idx:{path}", arrays, f" in {path}")


def _find_idx(folder, name):
    names = [name + end for name in (name, name.replace("-idx", ".idx")) for end in ("", ".gz")]
    for candidate in names:
        if (folder / candidate).is_file():
            return folder / candidate
    raise UserError(f"there is no {name}.gz in {folder}; expected MNIST's four archives")


def read_idx(path) -> np.ndarray:
    """The array in an idx file of unsigned bytes, packed by gzip or not.

    Raises: UserError if it is cut off, damaged, or another kind of file.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} is damaged or truncated: {error}") from None
    if len(data) < 4 or data[:3] != b"\0\0\x08" or not 1 <= data[3] <= 4:
        raise UserError(f"{path} is no idx file of bytes: it begins with {data[:4].hex(' ')!r}")
    start = 4 + 4 * data[3]
    if len(data) < start:
        raise UserError(f"{path} is truncated: it ends before its dimensions do")
    shape = tuple(np.frombuffer(data[4:start], ">u4").tolist())
    if len(data) - start != math.prod(shape):
        raise UserError(
            f"{path} is truncated or damaged: expected {math.prod(shape):,} bytes for {shape}, "
            f"came {len(data) - start:,}"
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def checked_dataset(name: str, arrays: dict[str, np.ndarray], where: str = "", class_names=None):
    """A `Dataset` from `x_train, y_train, x_test, y_test`; `where` they are is for the messages."""
    sources = {}
    for split in ("train", "test"):
        images = _check_images(f"x_{split}{where}", np.asarray(arrays[f"x_{split}"]))
        labels = np.asarray(arrays[f"y_{split}"])
        labels = _check_labels(f"y_{split}{where}", labels, len(images))
        sources[split] = ArraySource(images, labels)
    if class_names is None:
        classes = np.unique(sources["train"].labels)
        if len(classes) != classes[-1] + 1:
            raise UserError(
                f"labels out of range: y_train{where} has {len(classes)} classes but labels up to "
                f"{classes[-1]}; number the classes 0 to {len(classes) - 1}"
            )
        class_names = map(str, classes)
    return Dataset(name, sources["train"], None, sources["test"], tuple(class_names))


def _check_images(what, images):
    if images.dtype != np.uint8:
        hint = ""
        if np.issubdtype(images.dtype, np.floating):
            finite = np.isfinite(images).all()
            hint = (
                "; write np.round(255 * x).astype(np.uint8) if they lie in [0, 1]"
                if finite
                else "; there are NaN or infinite values among them"
            )
        raise UserError(f"{what}: expected uint8 images, came {images.dtype}{hint}")
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4:
        raise UserError(
            f"{what}: expected images [N, H, W] or [N, H, W, C], came shape {images.shape}"
        )
    if images.shape[3] not in (1, 3, 4) and images.shape[1] in (1, 3):
        raise UserError(
            f"{what}: the shape {images.shape} looks like [N, C, H, W]; "
            "write x.transpose(0, 2, 3, 1)"
        )
    if 0 in images.shape:
        raise UserError(f"{what} is empty: its shape is {images.shape}")
    return images


def _check_labels(what, labels, count):
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        hint = "; write y.argmax(1) if they are one-hot" if labels.ndim == 2 else ""
        raise UserError(f"{what}: expected labels [N], came shape {labels.shape}{hint}")
    if not np.issubdtype(labels.dtype, np.integer):
        raise UserError(f"{what}: expected integer labels, came {labels.dtype}")
    if len(labels) != count:
        raise UserError(f"{what}: expected a label for each of {count} images, came {len(labels)}")
    if labels.min() < 0 or labels.max() > np.iinfo(np.int32).max:
        outside = labels.min() if labels.min() < 0 else labels.max()
        raise UserError(f"{what}: labels out of range: {outside}; expected 0 and up")
    return labels
