"""From a convolution's shapes to a call that a compiled program can make."""

import hashlib
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from . import handler
from .library import Unsupported, library
from .operations import build

TYPES = ("float32", "bfloat16")


class Convolution(NamedTuple):
    """One pass of a convolution: all that its kernel in machine code depends on.

    Attributes:
      kind: `forward`, `input_gradient` or `kernel_gradient`.
      image, kernel, output: shapes, `[B, H, W, C]`, `[H, W, C / groups, features]`,
        `[B, H', W', features]`.
      stride, padding, dilation, groups: as in `ops.convolve`.
      dtype: of all three.
      bias, addend, relu: what follows forward: a bias of each feature, an image that is added, the
        negative set to zero (-inf stays).
    """

    kind: str
    image: tuple[int, ...]
    kernel: tuple[int, ...]
    output: tuple[int, ...]
    stride: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]
    dilation: tuple[int, int]
    groups: int
    dtype: str
    bias: bool = False
    addend: bool = False
    relu: bool = False


def convolution_call(convolution: Convolution):
    """A function of the operands, in the order of `convolution`'s, to be called while tracing.

    The operands are image and kernel (and bias and addend), gradient and kernel, or image and
    gradient. None where there is no library, or no kernel of its for these shapes, which are
    numbers above zero (`lowerings.takes_calls`).
    """
    if convolution.dtype not in TYPES or library() is None:
        return None
    try:
        key, workspace = _prepare(convolution)
    except (Unsupported, handler.Full):
        return None
    results = {"forward": "output", "input_gradient": "image", "kernel_gradient": "kernel"}
    shape = getattr(convolution, results[convolution.kind])
    outputs = [
        jax.ShapeDtypeStruct(shape, convolution.dtype),
        jax.ShapeDtypeStruct((workspace,), jnp.uint8),
    ]
    return lambda *operands: jax.ffi.ffi_call(handler.TARGET, outputs)(*operands, key=key)[0]


@cache
def _prepare(convolution: Convolution) -> tuple[np.int64, int]:
    """The key of a convolution's row, which is made once, and the bytes of its workspace.

    The key is the same in every process, so that a program out of a cache finds its row; with
    another version of the library it is another, so that no program of old is run with it.
    """
    row, workspace = build(convolution, library())
    text = f"{convolution} {library().version} {workspace}"
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    key = int.from_bytes(digest, "little", signed=True)
    library().table.add(key, row)
    return np.int64(key), workspace
