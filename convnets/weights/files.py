"""Weight files: safetensors and PyTorch's, read as NumPy arrays and without PyTorch."""

import json
import os
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from ..errors import UserError, first_line
from .torch_files import read_archive, read_legacy

FOREIGN = {
    b"version https://git-lfs": "a pointer of git LFS to a weight file (`git lfs pull` fetches it)",
    b"\x89HDF": "an HDF5 file, as Keras writes it",
    b"<": "a web page or XML; download the file itself",
}


def read_state_dict(path) -> dict[str, np.ndarray]:
    """The tensors of a weight file, by name.

    What the file is, is seen by its content: safetensors, or what `torch.save` has written of a
    state dict, today or before PyTorch 1.6. A state dict that lies under `state_dict`, `model` or
    `model_state_dict` is taken out of there, and where all names start with `module.`, which
    `DataParallel` adds, this is removed. Pickles are read without running anything.

    Returns: arrays in the file's order and dtypes, bfloat16 as `ml_dtypes.bfloat16`. They may be
    read-only, and those that share a storage share memory, with PyTorch's strides.

    Raises: UserError that names the file, and the tensor where there is one: for a file that is
    missing, truncated, damaged or something else, for entries that are no tensors, and for pickles
    that ask for more than tensors.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_safetensors(f"{folder}/weights", {"module.fc.bias": np.arange(2.0)})
    ...     read_state_dict(f"{folder}/weights")
    {'fc.bias': array([0., 1.])}
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise UserError(f"expected a weight file, came {path}, which is a folder or a device")
    try:
        with open(path, "rb") as file:
            state_dict = _reader(file)(file)
    except UserError as error:
        raise UserError(f"{path} cannot be read as weights: {error}") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or first_line(error)}") from None
    except Exception as error:  # whatever zipfile, pickletools and safetensors stumble over
        raise UserError(f"{path} is damaged or truncated: {first_line(error)}") from None
    if state_dict and all(name.startswith("module.") for name in state_dict):
        return {name.removeprefix("module."): array for name, array in state_dict.items()}
    return state_dict


def _reader(file) -> Callable:
    """The function that reads a file of this content."""
    start = file.read(64)
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if not size:
        raise UserError("the file is empty")
    if start[8:9] == b"{" and struct.unpack_from("<Q", start)[0] <= size - 8:
        return _read_safetensors
    if start.startswith(b"PK\x03\x04"):
        return read_archive
    if start.startswith(b"\x80"):
        return read_legacy
    for known, what in FOREIGN.items():
        if start.lstrip().startswith(known):
            raise UserError(f"it is {what}")
    raise UserError("it is neither safetensors nor what torch.save writes, or its start is damaged")


def _read_safetensors(file) -> dict[str, np.ndarray]:
    from safetensors import safe_open

    (length,) = struct.unpack("<Q", file.read(8))
    header = json.loads(file.read(length), object_pairs_hook=_require_distinct)
    arrays = {}
    with safe_open(file.name, framework="np") as tensors:
        for name in header:
            if name == "__metadata__":
                continue
            try:
                arrays[name] = tensors.get_tensor(name)
            except Exception as error:  # a dtype that NumPy does not have, …
                kind = header[name].get("dtype")
                raise UserError(
                    f"its tensor {name!r} of type {kind} cannot be read: {first_line(error)}"
                ) from None
    return arrays


def _require_distinct(pairs):
    """A JSON object; the package would take the last of two tensors of one name in silence."""
    result = dict(pairs)
    if len(result) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"its header has the entry {twice!r} twice")
    return result


def write_safetensors(path, state_dict: Mapping[str, np.ndarray]) -> None:
    """Writes tensors as safetensors, under another name first, so that no torn file is left.

    Args:
      path: the file; one that is there is replaced.
      state_dict: arrays by name, of any strides.

    Raises: UserError for what is no array, for a dtype that safetensors does not have (objects,
    texts, float128, complex128), and where nothing can be written.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    path = Path(path)
    arrays = {name: np.asarray(array, order="C") for name, array in state_dict.items()}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.touch()  # with the permissions that files get here
        mode = temporary.stat().st_mode
        save_file(arrays, temporary)  # takes the bytes as they lie, hence the order above
        temporary.chmod(mode)
        os.replace(temporary, path)
    except (SafetensorError, ValueError, TypeError) as error:
        raise UserError(f"cannot write {path}: {first_line(error)}") from None
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or first_line(error)}") from None
    finally:
        temporary.unlink(missing_ok=True)
