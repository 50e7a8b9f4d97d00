"""The public models' own logits, from their weights, and what a small fault does to them."""

import importlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convnets import layers, ops
from convnets.models import create_model
from convnets.weights import import_torch

from . import references

NAMES = {
    "torchvision": [
        "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "inception_v3",
        "mobilenet_v2", "mobilenet_v3_large", "resnet101", "resnet18", "resnet34", "resnet50",
        "resnext50_32x4d", "squeezenet1_0", "squeezenet1_1", "vgg11", "vgg11_bn", "vgg16",
        "vgg16_bn", "wide_resnet50_2",
    ],
    "timm": [
        "convnext_tiny", "densenet121", "efficientnet_b0", "mobilenetv3_large_100", "resnet50",
        "resnet50d", "resnetv2_50", "seresnet50", "wide_resnet50_2",
    ],
}  # fmt: skip
CASES = [(library, name) for library, names in NAMES.items() for name in names]
NO_CLASSIFIERS = {"fcn_resnet50", "deeplabv3_resnet50"}


def read(shared, library, name):
    """The reference and its weights as variables of ours."""
    reference = references.load(shared / "parity" / library / f"{name}.npz")
    return reference, import_torch(name, reference["weights"], library)


def error(reference, run, variables, images):
    """The largest difference of the logits, in units of what is allowed."""
    expected = reference["logits"]
    logits = run(variables, images)
    assert logits.shape == expected.shape
    allowed = 5e-3 * np.abs(expected[0] - expected[1]).max()
    return np.abs(logits - expected).max() / allowed


def compiled(model):
    return jax.jit(lambda variables, images: model.apply(variables, images, train=False))


def test_no_reference_is_left_out(shared):
    for library, names in NAMES.items():
        files = {path.stem for path in (shared / "parity" / library).glob("*.npz")}
        assert files - NO_CLASSIFIERS == set(names)


@pytest.mark.parametrize(("library", "name"), CASES)
def test_logits_and_parameters_are_the_librarys(library, name, shared):
    reference, variables = read(shared, library, name)
    count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    assert count == reference["parameters"]
    run = compiled(create_model(name))
    images = reference["images"]
    assert error(reference, run, variables, images) < 0.2  # of the 5e-3 that are allowed
    assert error(reference, run, variables, images[..., ::-1]) > 1  # blue, green, red
    if "batch_stats" in variables:
        wrong = jax.tree.map(lambda x: x, variables)
        wrong["batch_stats"] = jax.tree_util.tree_map_with_path(
            raise_variance, wrong["batch_stats"]
        )
        assert error(reference, run, wrong, images) > 1


def raise_variance(path, x):
    """As an epsilon of 2e-2 in the place of 1e-5 or 1e-3 would."""
    return x + 2e-2 if path[-1].key == "var" else x


# In each family: the file in which an activation is looked up, its name, and a wrong one.
ACTIVATIONS = {
    ("torchvision", "alexnet"): ("alexnet", "relu", layers.silu),
    ("torchvision", "vgg11_bn"): ("vgg", "relu", layers.silu),
    ("torchvision", "googlenet"): ("googlenet", "relu", layers.silu),
    ("torchvision", "resnet18"): ("resnet", "relu", layers.silu),
    ("torchvision", "densenet121"): ("densenet", "relu", layers.silu),
    ("torchvision", "squeezenet1_1"): ("squeezenet", "relu", layers.silu),
    ("torchvision", "efficientnet_b0"): ("efficientnet", "silu", layers.hard_swish),
    ("torchvision", "convnext_tiny"): ("convnext", "gelu", layers.silu),
    ("timm", "mobilenetv3_large_100"): ("mobilenet", "hard_sigmoid", layers.sigmoid),
    ("timm", "resnetv2_50"): ("resnet_v2", "relu", layers.silu),
}


@pytest.mark.parametrize(("library", "name"), ACTIVATIONS)
def test_a_wrong_activation_or_padding_is_found(library, name, shared, monkeypatch):
    reference, variables = read(shared, library, name)
    model, convolve = create_model(name), ops.convolve
    file, activation, wrong = ACTIVATIONS[library, name]
    place = importlib.import_module(f"convnets.models.{file}")
    right = getattr(place, activation)

    @jax.jit
    def run(variables, images, fault):  # one program for all faults
        def either(x):
            return jnp.where(fault == 1, wrong(x), right(x))

        with monkeypatch.context() as patch:
            patch.setattr(place, activation, either)
            patch.setattr(ops, "convolve", shift_first_padding(convolve, fault == 2))
            return model.apply(variables, images, train=False)

    def fault(number):
        return error(reference, partial(run, fault=number), variables, reference["images"])

    assert fault(0) < 0.2
    assert fault(1) > 1
    assert fault(2) > 1


def shift_first_padding(convolve, shift):
    """The first convolution that is padded has one pixel less before, and one more behind."""
    done = []

    def shifted(x, kernel, *, padding, **window):
        y = convolve(x, kernel, padding=padding, **window)
        if done or not np.sum(padding):
            return y
        rows, columns = padding if isinstance(padding, tuple) else (padding, padding)
        padding = (rows - 1, rows + 1), (columns - 1, columns + 1)
        done.append(padding)
        return jnp.where(shift, convolve(x, kernel, padding=padding, **window), y)

    return shifted
