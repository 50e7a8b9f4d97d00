import json
import re
import zlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

import convnets
from convnets.layers import ones, zeros
from convnets.models import BasicBlock, Bottleneck, PlainBlock, ResNet, create_model
from convnets.models.cifar_resnet import keep, stem3x3

TORCH_WORDS = {"kernel": "weight", "scale": "weight", "bias": "bias"}
TORCH_WORDS |= {"mean": "running_mean", "var": "running_var"}


def torchvision_name(path):
    """`backbone/stage1_block1/bn2/scale` is `layer1.0.bn2.weight`."""
    *modules, word = path.removeprefix("backbone/").split("/")
    name = ".".join([*modules, TORCH_WORDS[word]])
    name = re.sub(r"stage(\d)_block(\d+)", lambda m: f"layer{m[1]}.{int(m[2]) - 1}", name)
    name = name.replace("conv_shortcut", "downsample.0").replace("bn_shortcut", "downsample.1")
    return name.replace("head", "fc")


def rule(name, shape, seed):
    """The weights that the reference outputs were computed with."""
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    if len(shape) >= 2:
        return (rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))).astype(np.float32)
    if name.endswith("bias"):
        return (0.1 * rng.standard_normal(shape)).astype(np.float32)
    return rng.uniform(0.5, 1.5, shape).astype(np.float32)


def reference_value(path, shape, reference):
    name = torchvision_name(path)
    if f"statistics/{name}" in reference:
        return reference[f"statistics/{name}"]
    shapes = {n: json.loads(s) for n, s in zip(reference["names"], reference["shapes"])}
    value = rule(name, shapes[name], int(reference["seed"]))
    value = value.transpose((2, 3, 1, 0)) if value.ndim == 4 else value.T
    assert value.shape == shape, name
    return value


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_logits_equal_torchvision(name, shared):
    reference = dict(np.load(shared / "parity" / "torchvision" / f"{name}.npz"))
    batch, channels, height, width = reference["input_shape"]
    rng = np.random.default_rng(int(reference["seed"]))
    images = rng.standard_normal((batch, channels, height, width)).astype(np.float32)
    images = images.transpose(0, 2, 3, 1)

    model = create_model(name)
    shapes = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images)
    variables = {  # collection/path: params/backbone/conv1/kernel
        path: reference_value("/".join(path[1:]), leaf.shape, reference)
        for path, leaf in flatten_dict(shapes).items()
    }
    used = {torchvision_name("/".join(path[1:])) for path in variables}
    assert used == {name for name in reference["names"] if "num_batches" not in name}
    apply = jax.jit(lambda variables, images: model.apply(variables, images, train=False))
    logits = apply(unflatten_dict(variables), images)
    expected = reference["logits"]
    assert logits.shape == expected.shape
    difference = np.abs(expected[0] - expected[1]).max()
    assert np.abs(logits - expected).max() <= 5e-3 * difference


@pytest.mark.parametrize("block", [BasicBlock(64), Bottleneck(16)])
def test_residual_blocks_start_as_their_shortcut(block):
    x = jax.random.normal(jax.random.key(0), (2, 4, 4, 64))
    y, _ = block.init_with_output(jax.random.key(1), x, train=False)
    np.testing.assert_array_equal(y, jnp.maximum(x, 0))
    y, _ = block.clone(last_scale_init=ones).init_with_output(jax.random.key(1), x, train=False)
    assert np.abs(y - jnp.maximum(x, 0)).max() > 0.1


def test_plain_block_starts_at_scales_of_one_and_fan_out():
    x = jnp.ones((1, 4, 4, 32))
    params = PlainBlock(128, 2).init(jax.random.key(0), x, train=False)["params"]
    np.testing.assert_array_equal(params["bn2"]["scale"], np.ones(128))
    assert np.std(params["conv1"]["kernel"]) == pytest.approx(np.sqrt(2 / (9 * 128)), rel=0.02)
    assert "conv_shortcut" not in params


def test_with_last_scales_of_zero_a_network_starts_as_one_of_a_block_a_stage():
    """Goyal et al. 2017, section 5.1; the statistics of a batch change nothing of it."""
    x = jax.random.normal(jax.random.key(0), (4, 4, 4, 3))
    made_with = {"block": BasicBlock, "features": 4, "stem": stem3x3, "stem_pool": keep}
    small, large = (ResNet(sizes, last_scale_init=zeros, **made_with) for sizes in ((1,), (2,)))
    init = partial(large.init, train=False)
    variables = flatten_dict(jax.jit(init)(jax.random.key(1), x))
    shapes = flatten_dict(jax.eval_shape(partial(small.init, train=False), jax.random.key(1), x))
    shared = {path: value for path, value in variables.items() if path in shapes}
    assert shared.keys() == shapes.keys() != variables.keys()
    given = {"train": True, "mutable": ["batch_stats"]}
    apply = jax.jit(partial(small.apply, **given))
    expected, _ = apply(unflatten_dict(shared), x)
    apply = jax.jit(partial(large.apply, **given))
    found, _ = apply(unflatten_dict(variables), x)
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-5)
    scaled = {path: x + (path[-1] == "scale") * (x == 0) for path, x in variables.items()}
    assert np.abs(apply(unflatten_dict(scaled), x)[0]["stage1"] - expected["stage1"]).max() > 0.1


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        ("resnet50", 16),
        ("cifar_resnet8", 3),
        ("cifar_resnet8_projection", 3),
        ("seresnet18", 8),
        ("mobilenet_v2", 10),
        ("mobilenet_v3_small", 6),
        ("efficientnet_b0", 9),
    ],
)
def test_last_scales_are_an_option_of_every_residual_family(name, blocks):
    """One for each block that is added to its input."""
    drawn = []

    def draw(key, shape, dtype):
        drawn.append(shape)
        return jnp.zeros(shape, dtype)

    model = create_model(name, last_scale_init=draw)
    x = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), x)
    assert len(drawn) == blocks


@pytest.mark.parametrize("name", ["plain18", "cifar_plain8", "resnetv2_18", "densenet121"])
def test_without_a_scale_before_a_sum_there_is_no_such_option(name):
    with pytest.raises(convnets.UserError, match="no option 'last_scale_init'"):
        create_model(name, last_scale_init=zeros)
