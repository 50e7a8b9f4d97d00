"""What every registered model promises.

`parameter_paths.json` freezes names and shapes of parameters, because checkpoints and imported
weights depend on them. After a change that means to break them:
`python tests/models/test_contract.py`. The sizes that `convnets models` lists are stored too; after
a change of a model, or a new one: `python -m convnets.sizing`.
"""

import functools
import hashlib
import json
import zlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.extend.core import Var

from convnets.models import create_model, default_image_shape, feature_info, list_models
from convnets.sizing import model_sizes, trace_model

FROZEN = Path(__file__).with_name("parameter_paths.json")
NAMES = [name for name in list_models() if name != "cifar_resnet1202"]  # 1202 tells no more, slowly
SPELLED_OUT = {"linear", "mlp", "lenet1", "lenet5", "lenet5_1998", "resnet18"}  # others: a digest

PUBLISHED = {
    "linear": 7_850,
    "lenet1": 2_578,  # LeCun et al. 1990
    "lenet5": 61_706,
    "lenet5_1998": 60_000 + 850,  # LeCun et al. 1998, and the dense output
    "cifar_resnet20": 269_722,
    "cifar_resnet56": 853_018,
    "cifar_resnet110": 1_727_962,
    "cifar_resnet1202": 19_421_274,
    "cifar_plain20": 269_722,
    "alexnet": 61_100_840,
    "alexnet_two_tower": 60_965_224,  # "60 million"
    "jarrett2_abs_norm_average": (64 + 4096) * 81 + 64 + 256 + 101 * 4097,  # 4,096 filters
    "hmax": 250 * 4 * (4**2 + 8**2 + 12**2 + 16**2) + 101 * 1001,  # 1,000 prototypes
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "vgg11": 132_863_336,
    "vgg16": 138_357_544,
    "vgg19_bn": 143_678_248,
    "googlenet": 13_004_888,
    "inception_v3": 27_161_264,
    "wide_resnet50_2": 68_883_240,
    "resnext50_32x4d": 25_028_904,
    "resnext101_32x8d": 88_791_336,
    "resnext101_64x4d": 83_455_272,
    "resnext101_32x48d": 828_411_176,
    "resnet50d": 25_576_264,
    "seresnet50": 28_088_024,
    "resnetv2_50": 25_549_352,
    "cifar_wrn28_10": 36_479_194,
    "densenet121": 7_978_856,
    "densenet169": 14_149_480,
    "densenet201": 20_013_928,
    "squeezenet1_0": 1_248_424,
    "squeezenet1_1": 1_235_496,
    "mobilenet_v2": 3_504_872,
    "mobilenet_v3_small": 2_542_856,
    "mobilenet_v3_large": 5_483_032,
    "efficientnet_b0": 5_288_548,
    "efficientnet_b7": 66_347_960,
    "convnext_tiny": 28_589_128,
    "convnext_large": 197_767_336,
}

# Small enough to run; the deep ones repeat their blocks.
RUN = ["linear", "mlp", "lenet1", "lenet5", "lenet5_1998"]
RUN += ["cifar_plain20", "cifar_resnet20", "cifar_resnet20_projection"]
RUN += ["alexnet", "alexnet_two_tower", "alexnet_b", "deepface", "resnet18", "resnet50"]
RUN += ["resnetv2_18", "cifar_wrn10_1", "squeezenet1_1", "mobilenet_v3_small"]
RUN += ["jarrett1_norm_max", "jarrett2_abs_norm_average", "hmax", "neocognitron"]
RUN_AT = {  # pixels; the others at 32 at most
    "alexnet": 63,
    "alexnet_two_tower": 63,
    "alexnet_b": 63,
    "deepface": 72,
    "squeezenet1_1": 64,
    "jarrett2_abs_norm_average": 96,
    "hmax": 70,
}
HALF = [*RUN, "vgg11_bn", "googlenet", "inception_v3", "densenet121", "mobilenet_v2"]
HALF += ["efficientnet_b0", "convnext_tiny", "seresnet18", "resnet18d"]


def shapes(name, image_shape, *, train=False, **options):
    """Endpoints and variables for two images, as shapes."""
    model = create_model(name, **options)
    images = jax.ShapeDtypeStruct((2, *image_shape), jnp.float32)

    def initialize(key, images):
        keys = {"params": key, "dropout": key}
        return model.init_with_output(keys, images, train=train, method="endpoints")

    return jax.eval_shape(initialize, jax.random.key(0), images)


traced = functools.cache(trace_model)  # endpoints and variables for one image, as shapes; the size


def shapes_at_default(name):
    return traced(name)[:2]


def count(params):
    return sum(leaf.size for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize("name", NAMES)
def test_shapes_at_two_sizes(name):
    height, width, _ = default_image_shape(name)
    endpoints, at_first = shapes_at_default(name)
    larger, variables = shapes(name, (height + 64, width + 32, 5), train=True)
    assert jax.tree.structure(variables) == jax.tree.structure(at_first)  # whatever `train` is
    features = feature_info(name)
    assert {*endpoints} == {feature.name for feature in features} | {"pre_logits", "logits"}
    for name, stride, channels in features:
        before, after = endpoints[name].shape, larger[name].shape
        assert before[-1] == channels
        assert len(before) == (2 if stride is None else 4)
        if stride is not None:
            grown = after[1] - before[1], after[2] - before[2]
            assert np.abs(np.subtract(grown, (64 / stride, 32 / stride))).max() < 1
    classes = variables["params"]["head"]["bias"].shape[0]
    for images, logits in ((1, endpoints["logits"]), (2, larger["logits"])):
        assert logits.shape == (images, classes)
        assert logits.dtype == jnp.float32


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_as_many_as_published(name):
    assert count(shapes_at_default(name)[1]["params"]) == PUBLISHED[name]


@pytest.mark.parametrize("name", list_models())
def test_sizes_are_as_they_are_listed(name):
    assert traced(name)[2] == model_sizes()[name]


@pytest.mark.parametrize("name", NAMES)
def test_all_variables_count(name):
    """Logits, those of auxiliary heads too, need every variable; statistics change in training."""
    _, variables = shapes_at_default(name)
    images = jax.ShapeDtypeStruct((2, *default_image_shape(name)), jnp.float32)
    paths = [path for path in sorted(flatten_dict(variables, sep="/"))]
    model = create_model(name)

    def logits(variables, images):
        return model.apply(variables, images, train=False, mutable=["auxiliary"])

    program = jax.make_jaxpr(logits)(variables, images).jaxpr
    assert len(program.invars) == len(paths) + 1
    used = needed(program)
    unused = [path for path, x in zip(paths, program.invars) if x not in used]
    assert unused == []

    def train(variables, images):
        keys = {"dropout": jax.random.key(0)}
        return model.apply(variables, images, train=True, mutable=["batch_stats"], rngs=keys)[1]

    if "batch_stats" in variables:
        program = jax.make_jaxpr(train)(variables, images).jaxpr
        assert len(program.outvars) == len(jax.tree.leaves(variables["batch_stats"]))
        assert not {*program.outvars} & {*program.invars}


def needed(program):
    """The variables of a program that its results are made of."""
    found = {x for x in program.outvars if isinstance(x, Var)}
    for equation in reversed(program.eqns):
        if not found.isdisjoint(equation.outvars):
            found |= {x for x in equation.invars if isinstance(x, Var)}
    return found


@pytest.mark.parametrize("name", HALF)
def test_half_precision_reaches_every_endpoint(name):
    endpoints, variables = shapes(name, default_image_shape(name), dtype=jnp.bfloat16)
    assert endpoints.pop("logits").dtype == jnp.float32
    assert {endpoint.dtype for endpoint in endpoints.values()} == {jnp.dtype(jnp.bfloat16)}
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}


def frozen_form(name):
    """The shape of every variable by its path; for large models a digest of that."""
    flat = flatten_dict(shapes_at_default(name)[1], sep="/")
    paths = {path: list(flat[path].shape) for path in sorted(flat)}
    if name in SPELLED_OUT:
        return paths
    return f"{len(paths)} {hashlib.sha256(json.dumps(paths).encode()).hexdigest()[:16]}"


def test_parameter_paths_are_frozen():
    frozen = json.loads(FROZEN.read_text())
    assert frozen == {name: frozen_form(name) for name in NAMES}


def fill(path, shape):
    """A random value for every variable, drawn from its path; scales and variances positive."""
    rng = np.random.default_rng(zlib.crc32("/".join(path).encode()))
    if path[-1] in ("scale", "var"):
        return rng.uniform(0.5, 1.5, shape.shape).astype(np.float32)
    noise = rng.standard_normal(shape.shape).astype(np.float32)
    if path[-1] == "kernel":
        return noise * np.sqrt(2 / np.prod(shape.shape[:-1]), dtype=np.float32)
    return 0.1 * noise + (0.25 if path[-1] == "coefficient" else 0)


@functools.cache
def run(name):
    """Logits, gradients and statistics of two images under filled weights, in one program."""
    height, width, channels = default_image_shape(name)
    largest = RUN_AT.get(name, 32)
    image_shape = (min(height, largest), min(width, largest), channels)
    model = create_model(name, num_classes=10)
    _, variables = shapes(name, image_shape, num_classes=10)
    variables = unflatten_dict({p: fill(p, s) for p, s in flatten_dict(variables).items()})
    images = np.random.default_rng(0).standard_normal((2, *image_shape), np.float32)
    direction = np.random.default_rng(1).standard_normal((2, 10), np.float32)

    @jax.jit
    def compute(variables):
        def score(params):
            logits, after = model.apply(
                {**variables, "params": params}, images, train=False, mutable=["batch_stats"]
            )
            return jnp.sum(direction * logits), (logits, after)

        grads, (logits, after) = jax.grad(score, has_aux=True)(variables["params"])
        keys = {"dropout": jax.random.key(0)}
        _, trained = model.apply(variables, images, train=True, mutable=["batch_stats"], rngs=keys)
        return logits, grads, after, trained

    return variables, *compute(variables)


@pytest.mark.parametrize("name", RUN)
def test_every_parameter_has_a_gradient(name):
    for path, grad in flatten_dict(run(name)[2], sep="/").items():
        assert np.isfinite(grad).all(), path
        assert np.abs(grad).max() > 0, path


@pytest.mark.parametrize("name", RUN)
def test_two_images_differ(name):
    logits = run(name)[1]
    assert np.abs(logits[0] - logits[1]).max() > 0.01 * np.abs(logits).max()


@pytest.mark.parametrize("name", RUN)
def test_statistics_change_in_training_only(name):
    variables, _, _, after, trained = run(name)
    before = flatten_dict(variables.get("batch_stats", {}))
    assert set(flatten_dict(trained.get("batch_stats", {}))) == set(before)
    for path, value in before.items():
        np.testing.assert_array_equal(flatten_dict(after["batch_stats"])[path], value)
        assert np.abs(flatten_dict(trained["batch_stats"])[path] - value).max() > 1e-4, path


if __name__ == "__main__":
    forms = {name: frozen_form(name) for name in NAMES}
    FROZEN.write_text(json.dumps(forms, indent=1) + "\n")
