"""Every lowering of a convolution against XLA's own, in every transformation of JAX's."""

from functools import partial

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jax.test_util import check_grads

from convnets import ops
from convnets.ops import collective, onednn

LOWERINGS = [
    "plain",
    pytest.param(
        "onednn", marks=pytest.mark.skipif(not onednn.available(), reason="needs the extra onednn")
    ),
]

# batch, size, channels, features, kernel, and the options
GRID = [
    (2, (8, 8), 16, 16, (3, 3), dict(padding=1)),
    (3, (7, 9), 3, 5, (3, 2), dict(padding=((1, 0), (2, 1)))),
    (1, (9, 9), 8, 24, (1, 1), dict()),
    (2, (9, 8), 16, 32, (1, 1), dict(stride=2)),
    (2, (9, 8), 6, 10, (1, 1), dict(stride=(2, 3))),
    (2, (9, 8), 40, 32, (1, 1), dict(stride=(2, 3))),
    (2, (4, 5), 32, 64, (1, 1), dict(padding=(1, 0))),
    (2, (11, 10), 4, 6, (2, 2), dict(stride=3)),  # a stride beyond the kernel
    (4, (1, 1), 20, 12, (1, 1), dict()),  # one pixel
    (2, (3, 3), 7, 9, (3, 3), dict()),
    (2, (13, 12), 8, 8, (3, 3), dict(dilation=2, padding=2)),
    (2, (12, 13), 8, 12, (3, 3), dict(groups=4, padding=1)),
    (2, (10, 10), 16, 16, (3, 3), dict(groups=16, padding=1, stride=2)),  # depthwise
    (2, (9, 9), 4, 8, (5, 5), dict(groups=4, padding=2)),
    (2, (28, 28), 1, 6, (5, 5), dict(padding=2)),
    (2, (23, 21), 3, 16, (7, 7), dict(stride=2, padding=3)),
    (2, (5, 5), 4, 4, (3, 3), dict(padding=((3, 3), (0, 4)))),  # padding beyond the kernel
    (0, (6, 6), 4, 4, (3, 3), dict(padding=1)),  # no image
]


def draw(case, dtype=jnp.float32, seed=0):
    batch, size, channels, features, kernel_size, options = case
    random = np.random.default_rng(seed)
    x = random.normal(size=(batch, *size, channels))
    kernel = random.normal(size=(*kernel_size, channels // options.get("groups", 1), features))
    return jnp.asarray(x, dtype), jnp.asarray(kernel, dtype)


def value_and_gradients(lowering, case, dtype):
    x, kernel = draw(case, dtype)
    convolve = partial(ops.convolve, **case[5])

    def run(x, kernel):
        y, pull = jax.vjp(convolve, x, kernel)
        cotangent = jnp.asarray(np.random.default_rng(1).normal(size=y.shape), y.dtype)
        return y, *pull(cotangent)

    with ops.lowering(lowering):
        compiled = jax.jit(run).lower(x, kernel)
    assert ("convnets_onednn" in compiled.as_text()) == (lowering == "onednn" and x.size > 0)
    return compiled.compile()(x, kernel)


def assert_close(actual, expected, tolerance):
    assert actual.dtype == expected.dtype
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    scale = np.abs(expected).max(initial=0)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("case", GRID, ids=str)
@pytest.mark.parametrize("lowering", LOWERINGS)
def test_every_lowering_is_xlas_convolution(lowering, case):
    for actual, expected in zip(
        value_and_gradients(lowering, case, jnp.float32),
        value_and_gradients("xla", case, jnp.float32),
    ):
        assert_close(actual, expected, 1e-5)


@pytest.mark.parametrize("case", GRID, ids=str)
@pytest.mark.parametrize("lowering", LOWERINGS)
def test_half_precision_is_rounded_once(lowering, case):
    x, kernel = draw(case, jnp.bfloat16)
    y, *_ = exact = jax.vjp(
        partial(ops.convolve, **case[5]), x.astype(jnp.float32), kernel.astype(jnp.float32)
    )
    cotangent = np.random.default_rng(1).normal(size=y.shape)
    cotangent = jnp.asarray(cotangent, jnp.bfloat16).astype(jnp.float32)
    expected = y, *exact[1](cotangent)
    for actual, exactly in zip(value_and_gradients(lowering, case, jnp.bfloat16), expected):
        assert actual.dtype == jnp.bfloat16
        assert_close(actual.astype(jnp.float32), exactly, 2**-8)


CASE = (4, (6, 5), 8, 8, (3, 3), dict(padding=1, stride=2))


@pytest.mark.parametrize("lowering", LOWERINGS)
def test_derivatives_of_every_order_and_direction(lowering):
    x, kernel = draw(CASE)
    with ops.lowering(lowering):
        convolve = jax.jit(partial(ops.convolve, **CASE[5]))
        check_grads(convolve, (x, kernel), order=2, modes=["fwd", "rev"], atol=2e-2, rtol=2e-2)

        def loss(x, kernel):
            return jnp.sum(jnp.sin(convolve(x, kernel)))

        hessian = jax.jvp(jax.grad(loss, (0, 1)), (x, kernel), (x, kernel))[1]
    with ops.lowering("xla"):
        convolve = jax.jit(partial(ops.convolve, **CASE[5]))
        expected = jax.jvp(jax.grad(loss, (0, 1)), (x, kernel), (x, kernel))[1]
    for actual, exactly in zip(hessian, expected):
        assert_close(actual, exactly, 1e-5)


def gradient(x, kernel):
    def loss(x, kernel):
        return jnp.mean(jnp.sin(ops.convolve(x, kernel, **CASE[5])))

    return jax.grad(loss, (0, 1))(x, kernel)


@pytest.mark.parametrize("lowering", LOWERINGS)
@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0), (3, 1)], ids=str)
def test_vmap(lowering, axes):
    x, kernel = (jnp.stack([a, 2 * a, -a], axis or 0) for a, axis in zip(draw(CASE), axes))
    x, kernel = (a if axis is not None else a[0] for a, axis in zip((x, kernel), axes))

    def run(x, kernel):
        return jax.vmap(lambda *a: (ops.convolve(*a, **CASE[5]), *gradient(*a)), axes)(x, kernel)

    with ops.lowering(lowering):
        actual = jax.jit(run)(x, kernel)
    picks = [
        [a if axis is None else jnp.take(a, i, axis) for a, axis in zip((x, kernel), axes)]
        for i in range(3)
    ]
    with ops.lowering("xla"):
        each = [(ops.convolve(*pick, **CASE[5]), *gradient(*pick)) for pick in picks]
    for found, expected in zip(actual, map(jnp.stack, zip(*each))):
        assert_close(found, expected, 1e-5)


@pytest.mark.parametrize("lowering", LOWERINGS)
def test_checkpoint_and_scan(lowering):
    x, kernel = draw((2, (6, 6), 8, 8, (3, 3), {}))

    def loss(kernel):
        def body(x, _):
            return jnp.tanh(ops.convolve(x, kernel, padding=1)), None

        return jnp.sum(jax.lax.scan(jax.checkpoint(body), x, length=3)[0] ** 2)

    def unrolled(kernel):
        y = x
        for _ in range(3):
            y = jnp.tanh(ops.convolve(y, kernel, padding=1))
        return jnp.sum(y**2)

    with ops.lowering(lowering):
        actual = jax.jit(jax.grad(loss))(kernel)
    with ops.lowering("xla"):
        assert_close(actual, jax.jit(jax.grad(unrolled))(kernel), 1e-5)


@pytest.mark.parametrize("lowering", LOWERINGS)
@pytest.mark.parametrize("way", ["jit", "shard_map", "shard_map unchecked", "pmap"])
def test_over_eight_devices(lowering, way):
    x, kernel = draw((16, *CASE[1:]))
    mesh = Mesh(np.array(jax.devices()[:8]), ("data",), axis_types=(AxisType.Auto,))
    split = NamedSharding(mesh, P("data"))

    def local(x, kernel):
        kernel = collective.varying_over_data(kernel)
        of_x, of_kernel = gradient(x, kernel)
        return of_x, jax.lax.pmean(of_kernel, "data")

    with ops.lowering(lowering):
        if way == "jit":
            run = jax.jit(gradient, in_shardings=(split, NamedSharding(mesh, P())))
            scale = 1
        elif way == "pmap":
            run = jax.pmap(local, "data", in_axes=(0, None), out_axes=(0, None))
            x, scale = x.reshape(8, 2, *x.shape[1:]), 1 / 8
        else:
            run = jax.shard_map(
                local,
                mesh=mesh,
                in_specs=(P("data"), P()),
                out_specs=(P("data"), P()),
                check_vma=way == "shard_map",
            )
            run, scale = jax.jit(run), 1 / 8
        of_x, of_kernel = run(x, kernel)
    with ops.lowering("xla"):
        expected = gradient(x.reshape(16, *x.shape[-3:]), kernel)
    assert_close(scale * of_x.reshape(16, *x.shape[-3:]), expected[0], 1e-5)
    assert_close(of_kernel, expected[1], 1e-5)


def test_an_export_for_any_batch_is_left_to_jax():
    x, kernel = draw(CASE)
    (rows,) = jax.export.symbolic_shape("b")
    shape = jax.ShapeDtypeStruct((rows, *x.shape[1:]), x.dtype)
    exported = jax.export.export(jax.jit(lambda x: ops.convolve(x, kernel, **CASE[5])))(shape)
    assert_close(exported.call(x), ops.convolve(x, kernel, **CASE[5]), 1e-5)


def test_without_jit():
    x, kernel = draw(CASE)
    expected = gradient(x, kernel)
    with jax.disable_jit():
        for found, exactly in zip(gradient(x, kernel), expected):
            assert_close(found, exactly, 1e-5)


def test_over_a_mesh_with_explicit_axes():
    x, kernel = draw((16, *CASE[1:]))
    mesh = jax.make_mesh((8,), ("data",))
    expected = gradient(x, kernel)
    with jax.set_mesh(mesh):
        split = jax.device_put(x, NamedSharding(mesh, P("data")))
        whole = jax.device_put(kernel, NamedSharding(mesh, P()))
        for found, exactly in zip(jax.jit(gradient)(split, whole), expected):
            assert_close(found, exactly, 1e-5)
