"""Pooling against loops over windows, its gradients against finite differences and, at ties,
against the first maximum; PyTorch's own answers where they are at hand."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from convnets import ops
from convnets.errors import UserError

# size, window, stride, padding, ceil_mode
CASES = [
    ((6, 8), 2, None, 0, False),
    ((7, 9), (3, 2), None, 0, True),
    ((7, 8), 3, 2, 1, False),
    ((8, 7), 3, 2, 1, True),
    ((6, 5), 3, 1, ((1, 1), (0, 1)), False),
    ((7, 10), 2, 3, 0, True),  # the stride leaves pixels out
    ((5, 5), 2, 2, 1, True),  # the last window would start in the padding behind, and is none
    ((9, 7), (5, 4), (2, 3), ((2, 1), (0, 2)), True),
    ((2, 3), 3, 2, 0, True),  # one window, larger than the image
]


def windows_of_axis(size, length, stride, low, high, ceil_mode):
    """Starts and ends, in pixels of the image, of PyTorch's windows on one axis."""
    start, windows = -low, []
    while True:
        if ceil_mode and windows and (start >= size or start - stride + length >= size + high):
            return windows
        if not ceil_mode and start + length > size + high:
            return windows
        windows.append((start, min(start + length, size + high)))
        start += stride


def windows_of_image(size, window, stride, padding, ceil_mode):
    def pair(value):
        return value if isinstance(value, tuple) else (value, value)

    pads = [pair(p) for p in pair(padding)]
    steps = pair(window if stride is None else stride)
    return [
        windows_of_axis(n, k, s, *pad, ceil_mode)
        for n, k, s, pad in zip(size, pair(window), steps, pads)
    ]


def pool_by_loops(x, rows, columns, reduce):
    y = np.empty((x.shape[0], len(rows), len(columns), x.shape[3]))
    for i, (top, bottom) in enumerate(rows):
        for j, (left, right) in enumerate(columns):
            inside = x[:, max(top, 0) : bottom, max(left, 0) : right]
            y[:, i, j] = reduce(inside, (bottom - top) * (right - left))
    return y


@pytest.fixture(autouse=True, params=["onednn", "plain"])
def lowering(request):
    with ops.lowering(request.param):
        yield


def draw(size, dtype=np.float32, channels=2):
    return np.random.default_rng(0).normal(size=(2, *size, channels)).astype(dtype)


def pools(case):
    _, window, stride, padding, ceil_mode = case
    arguments = (window, stride, padding)
    return {
        "max": lambda x: ops.max_pool(x, *arguments, ceil_mode=ceil_mode),
        "sum": lambda x: ops.sum_pool(x, *arguments, ceil_mode=ceil_mode),
        "average": lambda x: ops.average_pool(x, *arguments, ceil_mode=ceil_mode),
        "average of pixels": lambda x: ops.average_pool(
            x, *arguments, ceil_mode=ceil_mode, count_include_pad=False
        ),
    }


REDUCTIONS = {
    "max": lambda pixels, area: pixels.max((1, 2)),
    "sum": lambda pixels, area: pixels.sum((1, 2)),
    "average": lambda pixels, area: pixels.sum((1, 2)) / area,
    "average of pixels": lambda pixels, area: pixels.mean((1, 2)),
}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_pools_are_the_loops(case):
    x = draw(case[0])
    windows = windows_of_image(*case)
    results = jax.jit(lambda x: {name: pool(x) for name, pool in pools(case).items()})(x)
    for name, y in results.items():
        expected = pool_by_loops(x, *windows, REDUCTIONS[name])
        assert y.dtype == x.dtype
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradients_are_the_finite_differences(case):
    with jax.enable_x64(True):
        x = draw(case[0], np.float64, channels=1)
        pool = jax.jit(lambda x: [pool(x) for pool in pools(case).values()])
        check_grads(pool, (x,), order=1, eps=1e-6, atol=1e-7, rtol=1e-7)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_tie_passes_its_gradient_to_the_first_maximum(case):
    x = np.random.default_rng(0).integers(0, 2, size=(2, *case[0], 3)).astype(np.float32)
    rows, columns = windows_of_image(*case)
    incoming = np.random.default_rng(1).normal(size=(2, len(rows), len(columns), 3))
    expected = np.zeros(x.shape)
    for i, (top, bottom) in enumerate(rows):
        for j, (left, right) in enumerate(columns):
            window = np.s_[max(top, 0) : bottom, max(left, 0) : right]
            for example in range(x.shape[0]):
                for channel in range(x.shape[3]):
                    pixels = x[example, :, :, channel][window]
                    row, column = np.unravel_index(pixels.argmax(), pixels.shape)
                    place = max(top, 0) + row, max(left, 0) + column
                    expected[(example, *place, channel)] += incoming[example, i, j, channel]
    pool = pools(case)["max"]
    gradient = jax.jit(lambda x: jax.vjp(pool, x)[1](jnp.asarray(incoming, x.dtype))[0])(x)
    np.testing.assert_allclose(gradient, expected, atol=1e-6)


def test_max_pool_is_that_of_pytorch(shared):
    with np.load(shared / "parity/ops/losses/max_unpool.npz") as file:
        data = dict(file)
    for case in sorted({name.split("/")[0] for name in data} - {"source"}):
        options = json.loads(str(data[f"{case}/args"]))
        window, stride, padding = options["kernel"], options["stride"], options["padding"]
        x, indices = data[f"{case}/in/x"], data[f"{case}/out/indices"]

        @jax.jit
        def pool_and_count(x, window=window, stride=stride, padding=padding, options=options):
            ceil_mode = options["ceil_mode"]
            pooled, pull = jax.vjp(
                lambda x: ops.max_pool(x, window, stride, padding, ceil_mode=ceil_mode), x
            )
            return pooled, pull(jnp.ones_like(pooled))[0]

        pooled, gradient = pool_and_count(x.transpose(0, 2, 3, 1))
        np.testing.assert_array_equal(pooled.transpose(0, 3, 1, 2), data[f"{case}/out/pooled"])
        chosen = np.zeros((*x.shape[:2], x.shape[2] * x.shape[3]))
        for plane in np.ndindex(*x.shape[:2]):
            np.add.at(chosen[plane], indices[plane].ravel(), 1)
        np.testing.assert_array_equal(gradient.transpose(0, 3, 1, 2).reshape(chosen.shape), chosen)


@pytest.mark.parametrize(("size", "bins"), [((7, 5), (3, 2)), ((4, 6), 2), ((2, 3), (5, 3))])
def test_adaptive_pools_are_the_loops(size, bins):
    x = draw(size)
    edges = [
        [(int(np.floor(i * n / m)), int(np.ceil((i + 1) * n / m))) for i in range(m)]
        for n, m in zip(size, bins if isinstance(bins, tuple) else (bins, bins))
    ]
    pool = jax.jit(lambda x: [ops.adaptive_average_pool(x, bins), ops.adaptive_max_pool(x, bins)])
    mean, largest = pool(x)
    expected = pool_by_loops(x, *edges, REDUCTIONS["average of pixels"])
    np.testing.assert_allclose(mean, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(largest, pool_by_loops(x, *edges, REDUCTIONS["max"]))
    with jax.enable_x64(True):
        x = draw(size, np.float64, channels=1)
        check_grads(pool, (x,), order=1, eps=1e-6, atol=1e-7, rtol=1e-7)


def test_global_pools():
    x = draw((5, 4))
    np.testing.assert_allclose(ops.global_average_pool(x), x.mean((1, 2)), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(ops.global_max_pool(x), x.max((1, 2)))
    with jax.enable_x64(True):
        x = draw((3, 4), np.float64)
        pool = jax.jit(lambda x: [ops.global_average_pool(x), ops.global_max_pool(x)])
        check_grads(pool, (x,), order=2, eps=1e-6, atol=1e-6, rtol=1e-6)
    gradient = jax.grad(lambda x: ops.global_max_pool(x).sum())(jnp.zeros((1, 2, 2, 1)))
    assert gradient.ravel().tolist() == [1, 0, 0, 0]


def test_half_precision_is_summed_in_float32():
    # Not under jit, which may keep float32 between operations by itself.
    x = jnp.asarray(draw((8, 8), channels=32), jnp.bfloat16)
    total = np.asarray(x, np.float64).sum((1, 2))
    for y, expected in (
        (ops.sum_pool(x, 8)[:, 0, 0], total),
        (ops.average_pool(x, 8)[:, 0, 0], total / 64),
        (ops.adaptive_average_pool(x, 1)[:, 0, 0], total / 64),
        (ops.global_average_pool(x), total / 64),
    ):
        assert y.dtype == jnp.bfloat16
        np.testing.assert_array_equal(y, jnp.asarray(expected, jnp.bfloat16))
    assert ops.max_pool(x, 3, 2, 1).dtype == ops.adaptive_average_pool(x, 3).dtype == jnp.bfloat16


def test_a_nan_is_passed_on():
    x = jnp.zeros((1, 4, 4, 1)).at[0, 3, 0, 0].set(jnp.nan)
    assert jnp.isnan(ops.max_pool(x, 2)).ravel().tolist() == [False, False, True, False]
    assert jnp.isnan(ops.global_max_pool(x)).all()


def test_what_does_not_fit_is_refused():
    image = jnp.ones((1, 4, 6, 1))
    with pytest.raises(UserError, match=r"window \(5, 5\), came 4x6"):
        ops.max_pool(image, 5)
    with pytest.raises(ValueError, match="more than half the window"):
        ops.average_pool(image, 3, padding=2)
    with pytest.raises(ValueError, match="at least 1"):
        ops.sum_pool(image, 2, 0)
    with pytest.raises(ValueError, match="at least one bin"):
        ops.adaptive_max_pool(image, (0, 1))
    for pool in (*pools(CASES[0]).values(), ops.global_average_pool, ops.global_max_pool):
        with pytest.raises(TypeError, match="uint8"):
            pool(image.astype(jnp.uint8))


def test_global_l2_and_both():
    x = np.random.default_rng(5).standard_normal((2, 3, 4, 5)).astype(np.float32)
    x[0, :, :, 2] = 0
    np.testing.assert_allclose(ops.global_l2_pool(x), np.sqrt((x**2).mean((1, 2))), rtol=1e-5)
    both = ops.global_average_and_max_pool(x)
    np.testing.assert_allclose(both[:, :5], x.mean((1, 2)), rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(both[:, 5:], x.max((1, 2)))
    gradient = jax.grad(lambda x: ops.global_l2_pool(x).sum())(x)
    norms = np.sqrt((x**2).mean((1, 2), keepdims=True)) * 12
    expected = np.divide(x, norms, out=np.zeros_like(x), where=norms > 0)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-7)


def test_l2_pool_of_windows():
    x = np.random.default_rng(6).standard_normal((2, 5, 6, 3)).astype(np.float32)
    x[0, :3, :3] = 0
    expected = np.empty((2, 2, 2, 3))
    for i, j in np.ndindex(2, 2):
        window = x[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
        expected[:, i, j] = np.sqrt((window**2).mean((1, 2)))
    np.testing.assert_allclose(ops.l2_pool(x, 3, 2), expected, rtol=1e-5, atol=1e-7)
    gradient = jax.grad(lambda x: ops.l2_pool(x, 3, 2).sum())(x)
    assert np.isfinite(gradient).all()
    assert np.isnan(ops.safe_sqrt(jnp.array([jnp.nan]))).all()
