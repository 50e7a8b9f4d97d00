"""Loops of our own: equal to the same in JAX, within their buffers, whatever the threads."""

import hashlib
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jax.test_util import check_grads

from convnets import ops
from convnets.ops import channels, maxima, normalization, onednn, pooling
from convnets.ops.onednn import frame, loop_calls

from .forging import call_forged, guarded

loops = pytest.importorskip("convnets.ops.onednn.loops")
memory = pytest.importorskip("convnets.ops.onednn.memory")

pytestmark = pytest.mark.skipif(not onednn.available(), reason="needs the extra onednn")

CASES = 150


def draw_pooling(random):
    """Images full of ties, with some NaN and infinities, and two windows on them."""
    lengths, strides = random.integers(1, 6, 2), random.integers(1, 5, 2)
    if random.uniform() < 0.05:
        lengths = np.array([(1, 255), (255, 1), (15, 17)])[random.integers(3)]
    padding = [[int(random.integers(0, n // 2 + 1)) for _ in range(2)] for n in lengths]
    size = [int(random.integers(max(1, n - sum(p)), n + 15)) for n, p in zip(lengths, padding)]
    few = random.integers(1, 20)
    shape = int(random.integers(1, 40)), *size, int(random.choice([few, 16, 33, 64]))
    x = random.integers(0, 4, shape).astype(np.float32)
    x[random.uniform(size=shape) < 0.01] = np.nan
    x[random.uniform(size=shape) < 0.02] = np.inf
    x[random.uniform(size=shape) < random.choice([0, 0.02, 0.9])] = -np.inf
    ceil_mode = bool(random.integers(2))
    windows = pooling.plan_windows(
        x, tuple(map(int, lengths)), tuple(map(int, strides)), padding, ceil_mode
    )
    return x, *windows


def maxima_by_numpy(x, rows, columns):
    shape = x.shape[0], rows.outputs, columns.outputs, x.shape[3]
    y, places = np.zeros(shape, np.float32), np.zeros(shape, np.uint8)
    for i, j in np.ndindex(shape[1:3]):
        top, left = i * rows.stride - rows.low, j * columns.stride - columns.low
        above, before = max(0, top), max(0, left)
        seen = x[:, above : top + rows.length, before : left + columns.length]
        height, width = seen.shape[1:3]
        seen = seen.reshape(x.shape[0], height * width, x.shape[3])
        row, column = np.divmod(seen.argmax(1), width)
        y[:, i, j] = seen.max(1)
        places[:, i, j] = (row + above - top) * columns.length + column + before - left
    return y, places


def write_by_numpy(shape, values, places, rows, columns):
    image, i, j, c = np.indices(values.shape)
    row, column = np.divmod(places.astype(int), columns.length)
    x = np.zeros(shape)
    row, column = row + i * rows.stride - rows.low, column + j * columns.stride - columns.low
    np.add.at(x, (image, row, column, c), values)
    return x


def test_pooling_stays_in_its_buffers_and_is_that_of_numpy():
    random = np.random.default_rng(0)
    handler = loop_calls._register()[0][0]
    for _ in range(CASES):
        x, rows, columns = draw_pooling(random)
        y, places = maxima_by_numpy(x, rows, columns)
        gradient = random.normal(size=y.shape).astype(np.float32)
        parts = min(loop_calls.PARTS, x.shape[0])
        numbers = *loop_calls._numbers(x.shape, rows, columns), parts, 0, 0, 0
        scratch = parts * 2 * x.shape[2] * x.shape[3]
        sizes = x.nbytes, y.nbytes, places.nbytes, 4 * scratch, scratch
        regions = [guarded(size) for size in sizes]
        arrays = [array for array, _ in regions]
        arrays[0][:] = x.reshape(-1).view(np.uint8)
        key = loop_calls._prepare("max_pool")
        assert call_forged(handler, arrays[:1], arrays[1:], key, numbers) == 0
        assert all(is_whole() for _, is_whole in regions)
        np.testing.assert_array_equal(arrays[1].view(np.float32).reshape(y.shape), y)
        its_places = arrays[2].reshape(places.shape)
        known = ~np.isnan(y)  # any of several NaN may be taken
        np.testing.assert_array_equal(its_places[known], places[known])

        regions = [guarded(size) for size in (gradient.nbytes, places.nbytes, x.nbytes)]
        arrays = [array for array, _ in regions]
        arrays[0][:] = gradient.reshape(-1).view(np.uint8)
        arrays[1][:] = its_places.reshape(-1)
        key = loop_calls._prepare("put")
        assert call_forged(handler, arrays[:2], arrays[2:], key, numbers) == 0
        assert all(is_whole() for _, is_whole in regions)
        expected = write_by_numpy(x.shape, gradient, its_places, rows, columns)
        actual = arrays[2].view(np.float32).reshape(x.shape)
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_sums_stay_in_their_buffers_and_are_those_in_float64(dtype):
    random = np.random.default_rng(0)
    handler = loop_calls._register()[0][0]
    for _ in range(40):
        count, size = int(random.integers(1, 6000)), int(random.integers(1, 90))
        weights = jnp.asarray(random.normal(1, 1, (count, size)), dtype)
        x = jnp.asarray(random.normal(3, 1, (count, size)), dtype)
        mean = random.normal(3, 1, size).astype(np.float32)
        parts = min(loop_calls.PARTS, -(-count // loop_calls.ROWS))
        regions = [guarded(n) for n in (x.nbytes, x.nbytes, mean.nbytes, parts * 16 * size)]
        arrays = [array for array, _ in regions]
        for array, values in zip(arrays, (weights, x, mean)):
            array[:] = np.asarray(values).reshape(-1).view(np.uint8)
        key = loop_calls._prepare(f"weigh_{x.dtype}")
        assert call_forged(handler, arrays[:3], arrays[3:], key, (count, size, parts, 0)) == 0
        assert all(is_whole() for _, is_whole in regions)
        sums = arrays[3].view(np.float32).reshape(parts, 4, size).sum(0)
        weights, x = np.asarray(weights, np.float64), np.asarray(x, np.float64)
        for actual, terms in zip(sums, (weights * (x - mean.astype(np.float64)), weights)):
            bound = 1e-6 * np.abs(terms).sum(0)
            assert (np.abs(actual - terms.sum(0)) <= bound + 1e-6).all()


def test_a_loop_that_was_never_compiled_ends_in_an_error():
    numbers = np.zeros(4, np.int64)
    unknown = jax.ffi.ffi_call(loop_calls.TARGET, jax.ShapeDtypeStruct((2,), jnp.float32))
    loop_calls._register()
    compiled = jax.jit(lambda x: unknown(x, loop=np.int64(7), numbers=numbers))
    with pytest.raises(jax.errors.JaxRuntimeError, match="compiled in another process"):
        compiled(jnp.ones(2)).block_until_ready()


X = jnp.asarray(
    np.random.default_rng(0).permutation(2 * 7 * 6 * 3).reshape(2, 7, 6, 3), jnp.float32
)


def pool(x):
    return ops.max_pool(x, 3, 2, 1)


def centred_sums(x):
    """The sums of channels, twice differentiable in both operands."""
    mean = jnp.cos(x).mean((0, 1, 2))
    return channels.weigh_channels(jnp.sin(x), x, mean, True, "onednn")


@pytest.mark.parametrize("case", range(8))
def test_jax_itself_gives_the_same(case):
    """What is taken over several devices, and in forward mode."""
    x, rows, columns = draw_pooling(np.random.default_rng(case))
    x = jnp.nan_to_num(x, posinf=jnp.inf, neginf=-jnp.inf)  # which of several NaN is not said
    call = partial(maxima.maxima, rows=rows, columns=columns)
    y, pull = jax.vjp(jax.jit(call), x)
    expected, places = jax.jit(partial(maxima._maxima, rows=rows, columns=columns))(x)
    np.testing.assert_array_equal(y, expected)
    assert "convnets_loop" in jax.jit(call).lower(x).as_text()
    cotangent = jnp.asarray(np.random.default_rng(1).normal(size=y.shape), jnp.float32)
    write = partial(maxima._write_pixels, rows=rows, columns=columns)
    np.testing.assert_allclose(
        pull(cotangent)[0], jax.jit(write)(cotangent, places), rtol=0, atol=1e-5
    )


def test_a_place_outside_of_the_image_is_not_written_to():
    windows = pooling.plan_windows(jnp.zeros((2, 1, 1, 16)), 5, 1, 2, False)
    places = jnp.zeros((2, 1, 1, 16), jnp.uint8)  # the corner of the window, in the padding
    write = jax.jit(partial(maxima._write, rows=windows[0], columns=windows[1]))
    assert not write(jnp.ones((2, 1, 1, 16)), places).any()


def test_what_numba_keeps_is_of_these_files():
    """numba compiles anew when loops.py changes, and only then: its digest has to follow."""
    texts = [Path(module.__file__).read_bytes() for module in (frame, memory)]
    assert hashlib.blake2b(b"".join(texts), digest_size=8).hexdigest() == loops.LAYOUT


def test_nothing_is_kept_where_nothing_can_be_written(tmp_path):
    package = Path(loops.__file__).parents[2]
    shutil.copytree(package, tmp_path / "convnets", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "convnets/ops/onednn/__pycache__").write_text("")  # in the place of a folder
    program = "import convnets; from convnets.ops.onednn import loops; print(loops.KEPT)"
    variables = {**os.environ, "HOME": "/dev/null", "PYTHONPATH": str(tmp_path)}
    for name in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME"):
        variables.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=variables,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "False\n", done.stderr


@pytest.mark.parametrize("spoiled", ["cut off", "full"])
def test_a_spoiled_cache_is_not_used(tmp_path, spoiled):
    program = (
        "import jax, jax.numpy as jnp; from convnets import ops;"
        "print(jax.jit(lambda x: ops.max_pool(x, 2))(jnp.ones((1, 4, 4, 1))).sum())"
    )
    variables = {
        **os.environ,
        "NUMBA_CACHE_DIR": str(tmp_path),
        "JAX_ENABLE_COMPILATION_CACHE": "false",
    }
    command = [sys.executable, "-c", program]
    if spoiled == "cut off":
        subprocess.run(command, env=variables, check=True, capture_output=True)
        kept = list(tmp_path.rglob("*.nbi"))
        assert kept
        for file in kept:
            file.write_bytes(b"")
    else:
        command = ["bash", "-c", 'ulimit -f 4; exec "$@"', "bash", *command]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert done.stdout == "4.0\n", done.stderr


@pytest.mark.parametrize(
    "variable", ["OMP_THREAD_LIMIT=1", "OMP_DYNAMIC=true", "NUMBA_DISABLE_JIT=1"]
)
def test_where_it_would_hang_or_fail_it_is_not_available(variable):
    name, value = variable.split("=")
    done = subprocess.run(
        [sys.executable, "-c", "from convnets.ops import onednn; print(onednn.available())"],
        env={**os.environ, "OMP_NUM_THREADS": "2", name: value},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "False\n"


def test_a_mesh_with_a_further_axis():
    """Of which only one is manual, so that the program is JAX's own."""
    mesh = Mesh(np.array(jax.devices()[:4]).reshape(2, 2), ("data", "model"))
    data = PartitionSpec("data")
    mapped = jax.shard_map(
        partial(gradient, pool), mesh=mesh, in_specs=data, out_specs=data, axis_names={"data"}
    )
    np.testing.assert_allclose(jax.jit(mapped)(X), gradient(pool, X), atol=1e-6)


def test_a_mesh_of_explicit_axes():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Explicit,))
    x = jnp.concatenate([X] * 4)
    with jax.set_mesh(mesh):
        placed = jax.device_put(x, NamedSharding(mesh, PartitionSpec("data")))
        np.testing.assert_allclose(jax.jit(pool)(placed), pool(x))
        actual = jax.jit(partial(gradient, pool))(placed)
    np.testing.assert_allclose(actual, gradient(pool, x), atol=1e-6)


def test_a_forced_lowering_is_kept_by_derivatives():
    def mean_square(x):
        moments = normalization.batch_moments(x)
        ones = jnp.ones(x.shape[-1])
        return normalization.normalize(x, moments, ones, ones, 1e-5).sum()

    with ops.lowering("plain"):
        exported = jax.export.export(jax.jit(jax.grad(mean_square)))(X)
        assert "convnets_loop" not in exported.mlir_module()


@pytest.mark.parametrize("function", ["pool", "moments"])
def test_a_batch_of_any_size_is_left_to_jax(function):
    def run(x):
        return ops.max_pool(x, 2) if function == "pool" else normalization.batch_moments(x)

    (size,) = jax.export.symbolic_shape("b")
    argument = jax.ShapeDtypeStruct((size, 6, 6, 8), jnp.float32)
    assert "convnets_loop" not in jax.export.export(jax.jit(run))(argument).mlir_module()


@pytest.mark.parametrize("function", [pool, centred_sums], ids=["pool", "sums"])
def test_derivatives_of_every_order_and_direction(function):
    check_grads(jax.jit(function), (X / 100,), order=2, modes=["fwd", "rev"], atol=0.05, rtol=0.05)


def gradient(function, x):
    def loss(x):
        return sum(jnp.sum(jnp.sin(y)) for y in jax.tree.leaves(function(x)))

    return jax.grad(loss)(x)


def test_under_vmap_scan_and_checkpoint():
    expected = gradient(pool, X)
    stacked = jnp.stack([X, 2 * X, -X])
    mapped = jax.jit(jax.vmap(partial(gradient, pool)))(stacked)
    for actual, x in zip(mapped, stacked):
        np.testing.assert_allclose(actual, gradient(pool, x), atol=1e-6)
    np.testing.assert_allclose(gradient(jax.checkpoint(pool), X), expected, atol=1e-6)
    _, scanned = jax.lax.scan(lambda carry, x: (carry, gradient(pool, x)), 0, stacked)
    np.testing.assert_allclose(scanned[0], expected, atol=1e-6)
    one_side = jax.vmap(lambda dx: jax.jvp(pool, (X,), (dx,))[1])(stacked)
    np.testing.assert_allclose(one_side[1], 2 * one_side[0], atol=1e-6)


@pytest.mark.parametrize("strategy", ["jit", "shard_map", "pmap"])
def test_over_eight_devices(strategy):
    x = jnp.concatenate([X, -X, 2 * X, X * X] * 2)
    mesh = Mesh(np.array(jax.devices()[:8]), ("data",))
    data = PartitionSpec("data")
    function = partial(gradient, pool)
    if strategy == "jit":
        compiled = jax.jit(function, in_shardings=NamedSharding(mesh, data))
    elif strategy == "shard_map":
        compiled = jax.jit(jax.shard_map(function, mesh=mesh, in_specs=data, out_specs=data))
    else:
        mapped = jax.pmap(function)

        def compiled(x):
            return mapped(x.reshape(8, -1, *x.shape[1:])).reshape(x.shape)

    np.testing.assert_allclose(compiled(x), function(x), atol=1e-6)


PROGRAM = """
import jax, jax.numpy as jnp, numpy as np
from convnets import ops
from convnets.ops import channels
x = jnp.asarray(np.random.default_rng(0).normal(size=(37, 12, 12, 5)), jnp.float32)
sums = channels.weigh_channels(x, x, jnp.zeros(5), False, "onednn")
y, pull = jax.vjp(jax.jit(lambda x: ops.max_pool(x, 3, 2, 1)), x)
print([np.asarray(a).tobytes().hex() for a in (*sums, y, *pull(y))])
"""


def test_the_same_bits_with_any_number_of_threads():
    answers = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, "OMP_NUM_THREADS": threads},
            capture_output=True,
            check=True,
        ).stdout
        for threads in ("1", "2", "5")
    }
    assert len(answers) == 1
