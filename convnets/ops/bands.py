"""Images cut into bands of rows over the axis `model` of a mesh, which exchange their borders.

Models say nothing of it: what compiles a step for such a mesh opens `in_bands` around its trace,
and `convolve` asks here. XLA divides a convolution over rows by itself, but not safely: of some
shapes it computes wrong gradients of the kernel without a word, at others it ends the process. So
every device runs a whole convolution here, over its own rows and those that its neighbors send.
"""

import contextlib
from contextvars import ContextVar

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from .collective import DATA_AXIS
from .primitives import Window, convolution, output_shape

MODEL_AXIS = "model"
ROWS = 2  # of a map on each device at least; smaller ones are whole on every device of `model`

_mesh: ContextVar[Mesh | None] = ContextVar("mesh", default=None)


@contextlib.contextmanager
def in_bands(mesh: Mesh | None):
    """Convolutions traced inside are divided by rows over the mesh's axis `model`, examples over
    `data`; with None, or without that axis, they are as everywhere."""
    divided = mesh is not None and mesh.shape.get(MODEL_AXIS, 1) > 1
    token = _mesh.set(mesh if divided else None)
    try:
        yield
    finally:
        _mesh.reset(token)


def convolve_in_bands(x, kernel, window: Window, lowering: str):
    """A convolution, over bands of rows where that is asked for and the shapes allow it.

    The arguments and the result are those of `primitives.convolution`.
    """
    mesh = _mesh.get()
    if mesh is None:
        return convolution(x, kernel, window, lowering)
    borders = band_borders(x.shape, kernel.shape, window, mesh.shape[MODEL_AXIS])
    examples = _examples(x, mesh)
    spec = P(examples) if borders is None else P(examples, MODEL_AXIS)
    if lowering == "onednn":  # its calls take all cores, and the devices would wait in turn
        lowering = "plain"

    def on_each_device(x, kernel):
        if borders is None:
            return convolution(x, kernel, window, lowering)
        padding = (0, 0), window.padding[1]
        return convolution(
            _bordered(x, *borders), kernel, window._replace(padding=padding), lowering
        )

    return jax.shard_map(on_each_device, mesh=mesh, in_specs=(spec, P()), out_specs=spec)(x, kernel)


def band_borders(image, kernel, window: Window, parts: int) -> tuple[int, int] | None:
    """How many rows of its neighbors above and below a band needs, `(above, below)`; below 0 where
    it has more than it needs. None where the image is not cut.

    It is cut where every device gets the same number of rows in and out, `ROWS` of each at least,
    the rows out are those in over the stride, and no device needs more than its neighbors have.

    Args:
      image, kernel: shapes `[B, H, W, C]` and `[kernel H, kernel W, C / groups, features]`.

    >>> band_borders((1, 16, 16, 3), (3, 3, 3, 8), Window((2, 2), ((1, 1), (1, 1)), (1, 1), 1), 4)
    (1, 0)
    """
    stride, above = window.stride[0], window.padding[0][0]
    rows, rows_out = image[1], _rows_out(image, kernel, window)
    if rows % parts or rows_out % parts or rows != rows_out * stride or rows_out < ROWS * parts:
        return None
    below = (kernel[0] - 1) * window.dilation[0] + 1 - stride - above
    return None if max(above, below) > rows // parts else (above, below)


def _rows_out(image, kernel, window):
    shapes = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in (image, kernel))
    return output_shape(*shapes, window=window)[1]


def _bordered(x, above, below):
    """A band between the last rows of the one above and the first of the one below; where there is
    none of them, zeros, which are the padding."""
    parts = lax.axis_size(MODEL_AXIS)
    bands = [x]
    if above:
        down = [(part, part + 1) for part in range(parts - 1)]
        bands.insert(0, lax.ppermute(x[:, -above:], MODEL_AXIS, down))
    if below > 0:
        up = [(part + 1, part) for part in range(parts - 1)]
        bands.append(lax.ppermute(x[:, :below], MODEL_AXIS, up))
    x = jnp.concatenate(bands, axis=1)
    return x if below >= 0 else x[:, :below]


def gather_rows(x):
    """The same images, whole on every device of `model`, for what is not computed by bands."""
    mesh = _mesh.get()
    if mesh is None:
        return x
    return lax.with_sharding_constraint(x, NamedSharding(mesh, P(_examples(x, mesh))))


def on_whole_maps(function, x, kernel):
    """`function(x, kernel)` of images and a kernel, over whole maps on every device of `model`."""
    mesh = _mesh.get()
    if mesh is None:
        return function(x, kernel)
    spec = P(_examples(x, mesh))
    return jax.shard_map(function, mesh=mesh, in_specs=(spec, P()), out_specs=spec)(x, kernel)


def _examples(x, mesh):
    return None if x.shape[0] % mesh.shape[DATA_AXIS] else DATA_AXIS
