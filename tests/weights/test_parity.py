"""Networks agree with their references layer by layer; a fault is found where it is."""

import functools
import math

import numpy as np
import pytest

from convnets import UserError
from convnets.layers import BatchNorm
from convnets.weights import compare_layers, format_report, import_torch, read_reference

MODELS = {
    "squeezenet1_1": "torchvision",
    "resnet18": "torchvision",
    "mobilenetv3_large_100": "timm",
}
# Of ours with weights, and of these what timm has within other modules: batch norms.
LAYERS = {"squeezenet1_1": (26, 26), "resnet18": (41, 41), "mobilenetv3_large_100": (110, 64)}


@pytest.fixture
def opened(shared):
    """A function: the reference of a model."""
    return lambda name: read_reference(shared / "parity" / MODELS[name] / f"{name}.npz")


def check(reference, name, *, disturbed=None, **options):
    """The report of a model, one of whose tensors is a hundredth larger."""
    state_dict = dict(reference.state_dict)
    if disturbed is not None:
        state_dict[disturbed] = np.float32(1.01) * state_dict[disturbed]
    variables = import_torch(name, state_dict, MODELS[name])
    return compare_layers(name, variables, reference, MODELS[name], **options)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_agrees_in_every_layer(opened, name):
    report = check(opened(name), name)
    compared = [layer for layer in report.layers if layer.expected is not None]
    assert (len(report.layers), len(compared)) == LAYERS[name]
    assert report.agrees
    assert report.first is None
    assert max(layer.difference for layer in compared) < 1e-5
    assert report.logits_difference < 1e-4 * report.logits_scale
    text = format_report(report)
    assert f"layers: {len(compared)} of {len(report.layers)} compared, 0 differ" in text
    assert text.endswith("verdict: agrees")


@pytest.mark.parametrize(
    ("name", "disturbed", "first"),
    [
        ("squeezenet1_1", "features.6.expand3x3.weight", "backbone/fire4/expand3x3"),
        ("resnet18", "layer3.0.downsample.1.weight", "backbone/stage3_block1/bn_shortcut"),
        ("mobilenetv3_large_100", "blocks.1.0.conv_dw.weight", "backbone/stage2_block1/depthwise"),
    ],
)
def test_the_layer_with_another_tensor_is_the_first(opened, name, disturbed, first):
    report = check(opened(name), name, disturbed=disturbed)
    assert report.layers[report.first].path == first
    assert not report.agrees
    text = format_report(report)
    (line,) = (line for line in text.splitlines() if line.endswith("<- the first that differs"))
    assert line.startswith(first)
    assert f"the first that differs: {first}, there {disturbed.removesuffix('.weight')}" in text
    assert text.endswith("verdict: differs")


def test_what_could_not_be_compared_before_it_is_told(opened):
    name = "mobilenetv3_large_100"
    report = check(opened(name), name, disturbed="blocks.1.0.bn1.weight")
    assert report.layers[report.first].name == "blocks.1.0.conv_dw"
    assert "; backbone/stage2_block1/bn_expand before it could not be compared" in format_report(
        report
    )


def test_another_epsilon_is_found_in_the_first_batch_norm(opened):
    norm = functools.partial(BatchNorm, epsilon=1e-3)
    report = check(opened("resnet18"), "resnet18", norm=norm)
    assert report.layers[report.first].path == "backbone/bn1"
    loose = check(opened("resnet18"), "resnet18", norm=norm, tolerance=0.1)
    assert loose.first is None


def test_other_shapes_and_numbers_that_are_none_differ(opened):
    reference = opened("resnet18")
    wrong = reference.layers[0]._replace(shape=(2, 64, 111, 111))
    report = check(reference._replace(layers=(wrong, *reference.layers[1:])), "resnet18")
    assert report.first == 0
    assert report.layers[0].difference == math.inf
    assert "there conv1 with an output [2, 64, 111, 111]" in format_report(report)

    nothing = reference.layers[0]._replace(mean=math.nan, deviation=math.nan)
    report = check(reference._replace(layers=(nothing, *reference.layers[1:])), "resnet18")
    assert report.first == 0
    assert not report.agrees

    state_dict = reference.state_dict | {"bn1.bias": np.full(64, np.nan, np.float32)}
    variables = import_torch("resnet18", state_dict)
    report = compare_layers("resnet18", variables, reference)
    assert report.layers[report.first].path == "backbone/bn1"
    assert report.layers[report.first].difference == math.inf
    assert not report.agrees


def test_a_reference_of_another_model_is_refused(opened):
    reference = opened("squeezenet1_1")
    variables = import_torch("resnet18", opened("resnet18").state_dict)
    with pytest.raises(UserError, match="no layer of resnet18 in torchvision is in the reference"):
        compare_layers("resnet18", variables, reference)
