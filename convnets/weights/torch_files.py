"""PyTorch's weight files, read without PyTorch: today's archive, and the format before 1.6.

Reference: what `torch.save` writes (torch/serialization.py). The archive is a zip with a pickle,
`data.pkl`, and the bytes of each storage, `data/KEY`. Before, four pickles stood one after another
(a magic number, the version, the machine, the object), then a fifth with the keys of the storages,
then for each key the number of its elements, in 8 bytes, and the elements.
"""

import io
import math
import mmap
import struct
import zipfile
from collections.abc import Callable

import ml_dtypes
import numpy as np

from ..errors import UserError, first_line
from .pickles import Storage, Tensor, load_pickle

MAGIC = 0x1950A86A20F9469CFC6C
WRAPPERS = ("state_dict", "model", "model_state_dict")
REPEATABLE = 2**24  # elements up to which a tensor may have more of them than its storage

DIMENSIONS, LARGEST = 64, 2**48  # of a tensor: NumPy's most, and far more than there are


def read_archive(file) -> dict[str, np.ndarray]:
    """The state dict of an open zip, by name. Arrays are read-only views of the storages.

    Raises: UserError, and exceptions of other kinds for damaged zips and pickles.
    """
    file_size = file.seek(0, io.SEEK_END)
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        if len(set(names)) < len(names):
            raise UserError("its zip has an entry twice")
        pickles = [name for name in names if name == "data.pkl" or name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise UserError("it is a zip, but not one of PyTorch's: expected one data.pkl in it")
        folder = pickles[0].removesuffix("data.pkl")
        if f"{folder}constants.pkl" in names:
            raise UserError("it is a TorchScript program; save its `state_dict()` alone")

        def read(name):
            entry = archive.getinfo(folder + name)
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > file_size:
                raise UserError(f"its entry {name} is compressed, or longer than the file")
            return archive.read(entry)

        if f"{folder}byteorder" in names and read("byteorder") != b"little":
            raise UserError("its numbers have their bytes in the other order")
        value = load_pickle(io.BytesIO(read("data.pkl")))
        return _build_all(value, lambda key: read(f"data/{key}"))


def read_legacy(file) -> dict[str, np.ndarray]:
    """The state dict of an open file from before PyTorch 1.6, as `read_archive` does it."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if load_pickle(content) != MAGIC:
            raise UserError("it is a pickle, but not one of PyTorch's")
        load_pickle(content)  # the version of the format; there has been only one
        if not load_pickle(content).get("little_endian", True):
            raise UserError("its numbers have their bytes in the other order")
        storages: dict[str, Storage] = {}
        value = load_pickle(content, storages)
        places = {}
        position = None
        keys = load_pickle(content)
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise UserError("the names of its storages are no list of texts")
        for key in keys:
            if key not in storages:
                raise UserError(f"it has a storage {key!r} that belongs to no tensor")
            start = 8 + (content.tell() if position is None else position)
            (size,) = struct.unpack_from("<q", content, start - 8)
            position = start + size * _dtype(storages[key].dtype).itemsize
            if not start <= position <= len(content):
                raise UserError(f"the end is missing: its storage {key} reaches beyond it")
            places[key] = slice(start, position)
        return _build_all(value, lambda key: content[places[key]])


def _build_all(value, read: Callable[[str], bytes]) -> dict[str, np.ndarray]:
    """The arrays of a state dict; `read` gives the bytes of the storage of a key."""
    buffers: dict[str, bytes] = {}
    arrays = {}
    for name, tensor in _unwrap(value).items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise UserError(f"its entry {name!r} is no tensor but {type(tensor).__name__}")
        key = tensor.storage.key
        try:
            if key not in buffers:
                buffers[key] = read(key)
            arrays[name] = _build(tensor, buffers[key])
        except Exception as error:  # whatever NumPy and zipfile find wrong
            raise UserError(f"its tensor {name!r} cannot be read: {first_line(error)}") from None
    return arrays


def _unwrap(value) -> dict:
    """The state dict itself, where a checkpoint holds it beside an epoch, an optimizer, …"""
    if not isinstance(value, dict):
        raise UserError(f"it holds no state dict but an object of type {type(value).__name__}")
    inner = [name for name in WRAPPERS if isinstance(value.get(name), dict)]
    if len(inner) > 1:
        raise UserError(f"it holds several state dicts: {', '.join(inner)}; save one of them alone")
    return value[inner[0]] if inner else value


def _build(tensor: Tensor, buffer: bytes) -> np.ndarray:
    """A view of a storage's bytes, which NumPy keeps to."""
    storage, dtype = tensor.storage, _dtype(tensor.dtype)
    unit = _dtype(storage.dtype).itemsize
    if len(buffer) != storage.size * unit:
        raise ValueError(
            f"expected {storage.size * unit} bytes in its storage {storage.key}, came {len(buffer)}"
        )
    if len(tensor.shape) > DIMENSIONS or max(tensor.shape, default=0) > LARGEST:
        raise ValueError(f"{len(tensor.shape)} dimensions, or one above {LARGEST}")
    elements = math.prod(tensor.shape)
    if elements == 0:
        return np.zeros(tensor.shape, dtype)
    if elements > max(REPEATABLE, len(buffer) // dtype.itemsize):
        raise ValueError(f"{elements} elements of a storage of {len(buffer)} bytes")
    return np.ndarray(
        tensor.shape,
        dtype,
        buffer,
        storage.start * unit + tensor.offset * dtype.itemsize,
        [stride * dtype.itemsize for stride in tensor.strides],
    )


def _dtype(name):
    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)
