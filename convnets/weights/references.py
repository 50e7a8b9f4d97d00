"""References: what another library's model answers to images that everybody can draw again.

A reference is an `.npz` file with

- `layers`: a JSON list for each of the model's leaf modules in the order of execution, of its path,
  its output's shape, and that output's mean and standard deviation (of a sample, over `N - 1`, as
  PyTorch's `std` has it);
- `seed` and `input_shape` `[B, C, H, W]`, of the images that it saw:
  `np.random.default_rng(seed).standard_normal(input_shape).astype(np.float32)`;
- `logits` `[B, K]`, its output in evaluation.

In PyTorch the layers are what forward hooks on the modules without children see. Where no weight
file goes with it, the weights are filled by a rule (`fill`), and it also has `names` and `shapes`
(JSON lists), the entries of the state dict, and `statistics/NAME`, what is filled otherwise.
"""

import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import UserError, first_line


class ReferenceLayer(NamedTuple):
    """What a leaf module gave; `shape` as it is there, the batch first."""

    name: str
    shape: tuple[int, ...]
    mean: float
    deviation: float


class Reference(NamedTuple):
    """A reference as it is read.

    Attributes:
      images: `[B, H, W, C]`, float32.
      layers: in the order of execution.
      logits: `[B, K]`.
      state_dict: name -> array, filled by the rule; None where the file does not say its entries.
    """

    images: np.ndarray
    layers: tuple[ReferenceLayer, ...]
    logits: np.ndarray
    state_dict: dict[str, np.ndarray] | None


def read_reference(path) -> Reference:
    """A reference from its `.npz` file.

    Raises: UserError for a file that is missing, damaged, or without the entries above.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise UserError(f"expected a reference, came {path}, which is a folder or a device")
    try:
        with open(path, "rb") as file:
            if file.read(2) != b"PK":  # of a zip, which NumPy would take for a pickle
                raise ValueError("its content is another")
            file.seek(0)
            with np.load(file) as entries:
                arrays = dict(entries)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or first_line(error)}") from None
    except (ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path} is no .npz file of NumPy's: {first_line(error)}") from None
    missing = {"layers", "seed", "input_shape", "logits"} - arrays.keys()
    if missing:
        raise UserError(f"{path} is no reference; it lacks {', '.join(sorted(missing))}")
    try:
        return _parse(arrays)
    except (ValueError, TypeError, LookupError, ArithmeticError, RecursionError) as error:
        raise UserError(f"{path} is no reference: {first_line(error)}") from None
    except MemoryError:
        raise UserError(f"{path} is no reference: its shapes are larger than memory") from None


def read_weights(path) -> tuple[Mapping[str, np.ndarray], Reference | None]:
    """The state dict of a weight file, and None; or of a reference (`.npz`), filled, with that.

    Raises: UserError as `read_reference`, or `files.read_state_dict`, and for a reference that does
    not say the entries of its state dict.
    """
    if Path(path).suffix != ".npz":
        from .files import read_state_dict

        return read_state_dict(path), None
    reference = read_reference(path)
    if reference.state_dict is None:
        raise UserError(
            f"{path} lacks names and shapes, the entries to be filled; name a weight file"
        )
    return reference.state_dict, reference


def _parse(arrays) -> Reference:
    seed, logits = int(arrays["seed"]), arrays["logits"]
    images = draw_images(arrays["input_shape"], seed)
    if not np.issubdtype(logits.dtype, np.floating):
        raise ValueError(f"expected floating logits, came {logits.dtype}")
    if logits.ndim != 2 or len(logits) != len(images) or len(images) < 2:
        raise ValueError(
            f"expected logits [B, K] of two images or more, came {logits.shape} of {len(images)}"
        )
    layers = (json.loads(str(layer)) for layer in arrays["layers"])
    layers = tuple(
        ReferenceLayer(str(name), tuple(map(int, shape)), float(mean), float(deviation))
        for name, shape, mean, deviation in layers
    )
    state_dict = None
    if {"names", "shapes"} <= arrays.keys():
        shapes = (tuple(json.loads(str(shape))) for shape in arrays["shapes"])
        state_dict = {
            name: arrays[f"statistics/{name}"]
            if f"statistics/{name}" in arrays
            else fill(name, shape, seed)
            for name, shape in zip(map(str, arrays["names"]), shapes)
        }
    return Reference(images, layers, logits, state_dict)


def draw_images(input_shape, seed: int) -> np.ndarray:
    """The images of a reference, `[B, H, W, C]` float32, of its shape `[B, C, H, W]`.

    >>> draw_images((2, 3, 4, 5), seed=0).shape
    (2, 4, 5, 3)
    """
    images = np.random.default_rng(seed).standard_normal(tuple(map(int, input_shape)))
    return images.astype(np.float32).transpose(0, 2, 3, 1)


def fill(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """The rule: a random value for every entry of a PyTorch state dict, drawn from its name.

    Kernels are normal with the variance `2 / fan-in` (He), biases normal with the deviation 0.1,
    scales uniform from 0.5 to 1.5; a layer scale counts as a scale. Running means are 0 and running
    variances 1. Float32, but for the counters `num_batches_tracked`, which are zeros of int64.

    >>> fill("fc.weight", (2, 3), seed=0).shape, fill("bn1.running_var", (2,), seed=0).tolist()
    ((2, 3), [1.0, 1.0])
    """
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if name.endswith("running_var"):
        return np.ones(shape, np.float32)
    if name.endswith("running_mean"):
        return np.zeros(shape, np.float32)
    if len(shape) >= 2 and not name.endswith("layer_scale"):
        noise = rng.standard_normal(shape)
        return (noise * np.sqrt(2.0 / np.prod(shape[1:]))).astype(np.float32)
    if name.endswith("bias"):
        return (0.1 * rng.standard_normal(shape)).astype(np.float32)
    return rng.uniform(0.5, 1.5, shape).astype(np.float32)
