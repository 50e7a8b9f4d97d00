"""Fused inference against the same function unfused, and how many convolutions take what."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convnets import create_model, ops
from convnets.ops import onednn

pytestmark = pytest.mark.skipif(not onednn.available(), reason="needs the extra onednn")
RANDOM = np.random.default_rng(0)
X = jnp.asarray(RANDOM.normal(size=(2, 6, 6, 8)), jnp.float32)
KERNEL = jnp.asarray(RANDOM.normal(size=(3, 3, 8, 8)), jnp.float32)
CHANNEL = jnp.asarray(RANDOM.normal(size=(1, 1, 1, 8)), jnp.float32)
IMAGE = jnp.asarray(RANDOM.normal(size=(2, 6, 6, 8)), jnp.float32)
convolve = partial(ops.convolve, padding=1)

CHAINS = {
    "bias": lambda x: convolve(x, KERNEL) + CHANNEL,
    "bias before": lambda x: CHANNEL + convolve(x, KERNEL),
    "difference": lambda x: convolve(x, KERNEL) - CHANNEL,
    "number": lambda x: 2 * convolve(x, KERNEL) - 1,
    "norm": lambda x: (convolve(x, KERNEL) - CHANNEL) * (CHANNEL + 2) + 1,
    "relu": lambda x: jax.nn.relu(convolve(x, KERNEL)),
    "image": lambda x: convolve(x, KERNEL) + IMAGE,
    "image before": lambda x: IMAGE + convolve(x, KERNEL) * CHANNEL,
    "all": lambda x: jax.nn.relu((convolve(x, KERNEL) - CHANNEL) * CHANNEL + CHANNEL + IMAGE),
    "shortcut": lambda x: jax.nn.relu(convolve(x, KERNEL) + 1 + (convolve(x, -KERNEL) - CHANNEL)),
    "bias after image": lambda x: convolve(x, KERNEL) + IMAGE + CHANNEL,
    # What must not be fused, or only its beginning:
    "twice": lambda x: jnp.sin(y := convolve(x, KERNEL)) + jax.nn.relu(y),
    "negative": lambda x: CHANNEL - convolve(x, KERNEL),
    "clipped": lambda x: jnp.maximum(convolve(x, KERNEL), 0.5),
    "minimum": lambda x: jnp.minimum(convolve(x, KERNEL), 0),
    "factor after image": lambda x: (convolve(x, KERNEL) + IMAGE) * CHANNEL,
    "relu before": lambda x: jax.nn.relu(convolve(x, KERNEL)) * CHANNEL + 1,
    "two images": lambda x: convolve(x, KERNEL) + IMAGE + 2 * IMAGE,
    "columns": lambda x: convolve(x, KERNEL) + jnp.arange(6.0).reshape(1, 1, 6, 1),
    "one image of two": lambda x: convolve(x, KERNEL) + IMAGE[:1],
    "itself": lambda x: (y := convolve(x, KERNEL)) + y,
    "returned too": lambda x: jnp.stack([y := convolve(x, KERNEL), jax.nn.relu(y)]),
}


@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_gives_the_same(name):
    with ops.lowering("onednn"):
        fused = jax.jit(ops.fuse_convolutions(CHAINS[name]))(X)
    with ops.lowering("xla"):
        expected = jax.jit(CHAINS[name])(X)
    assert fused.dtype == expected.dtype
    if name in ("relu", "all", "shortcut"):
        assert (fused >= 0).all()
        assert abs(int((fused == 0).sum()) - int((expected == 0).sum())) <= 2  # rounding at zero
    np.testing.assert_allclose(fused, expected, rtol=0, atol=1e-5 * float(abs(expected).max()))


def operations(function, *arguments) -> list[str]:
    jaxpr = jax.make_jaxpr(function)(*arguments).jaxpr
    return [equation.primitive.name for equation in jaxpr.eqns]


def test_one_operation_is_left_of_a_block():
    names = operations(ops.fuse_convolutions(CHAINS["all"]), X)
    assert names.count("fused_convolution") == 1
    assert not {"max", "sub", "convolution"} & set(names)
    assert "convolution" in operations(ops.fuse_convolutions(CHAINS["twice"]), X)


# How many maxima are left: LeNet's of its dense layers, after pooling, and of unused endpoints.
@pytest.mark.parametrize(
    ("name", "maxima"), [("lenet5", 2 + 2 + 2), ("cifar_resnet8", 0), ("resnet18", 0)]
)
def test_a_network_gives_the_same_logits(name, maxima):
    model = create_model(name, num_classes=10)
    side, channels = (28, 1) if "LeNet" in type(model.backbone).__name__ else (32, 3)
    images = jnp.asarray(RANDOM.normal(size=(2, side, side, channels)), jnp.float32)
    variables = jax.jit(partial(model.init, train=False))(jax.random.key(0), images)
    variables = jax.tree.map(
        lambda x: x + 0.1 * jnp.asarray(RANDOM.uniform(size=x.shape), x.dtype), variables
    )
    apply = partial(model.apply, train=False)
    names = operations(ops.fuse_convolutions(apply), variables, images)
    assert names.count("max") == maxima
    assert "convolution" not in names
    logits = jax.jit(ops.fuse_convolutions(apply))(variables, images)
    expected = jax.jit(apply)(variables, images)
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5 * float(abs(expected).max()))


def test_elsewhere_it_is_the_function():
    with ops.lowering("plain"):
        names = operations(ops.fuse_convolutions(CHAINS["all"]), X)
    assert "fused_convolution" not in names


@pytest.mark.parametrize("broken", ["image", "kernel"])
def test_what_is_not_a_number_stays_so(broken):
    x, kernel = X, KERNEL
    if broken == "image":
        x = x.at[0, 2, 2, 0].set(jnp.nan)
    else:
        kernel = kernel.at[1, 1, 0, 3].set(jnp.nan)

    def layer(x):
        return jax.nn.relu(convolve(x, kernel) + CHANNEL)

    expected = np.isnan(layer(x))
    assert expected.any()
    np.testing.assert_array_equal(np.isnan(ops.fuse_convolutions(layer)(x)), expected)


def test_a_lowering_forced_inside_stays_and_a_kernel_may_be_a_convolution():
    def forced(x):
        with ops.lowering("xla"):
            return jax.nn.relu(convolve(x, KERNEL))

    assert "fused_convolution" not in operations(ops.fuse_convolutions(forced), X)

    def twice(x):
        kernel = ops.convolve(jnp.ones((3, 5, 10, 8)), KERNEL)
        return jax.nn.relu(ops.convolve(x, kernel, padding=1))

    np.testing.assert_allclose(ops.fuse_convolutions(twice)(X), twice(X), rtol=1e-4, atol=1e-2)


def test_without_the_library_it_is_the_function(monkeypatch):
    monkeypatch.setattr(onednn.library, "_find", lambda: None)
    assert "fused_convolution" not in operations(ops.fuse_convolutions(CHAINS["all"]), X)


def test_under_vmap_and_with_half_precision():
    fused = ops.fuse_convolutions(CHAINS["all"])
    stacked = jnp.stack([X, -X])
    expected = jnp.stack([CHAINS["all"](X), CHAINS["all"](-X)])
    np.testing.assert_allclose(jax.vmap(fused)(stacked), expected, rtol=1e-4, atol=1e-4)
    half, kernel = X.astype(jnp.bfloat16), KERNEL.astype(jnp.bfloat16)
    layer = ops.fuse_convolutions(lambda x: jax.nn.relu(convolve(x, kernel)))
    assert layer(half).dtype == jnp.bfloat16
