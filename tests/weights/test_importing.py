"""Weights go in and come out the same, and what does not fit is refused by name."""

import jax
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict

from convnets.errors import UserError
from convnets.models import create_model
from convnets.weights import export_torch, import_torch
from convnets.weights.importing import variable_shapes

from . import references

ROUND_TRIPS = [
    ("torchvision", "squeezenet1_1"),
    ("torchvision", "resnet18"),
    ("torchvision", "densenet121"),
    ("torchvision", "googlenet"),
    ("torchvision", "mobilenet_v2"),
    ("torchvision", "mobilenet_v3_large"),
    ("torchvision", "convnext_tiny"),
    ("timm", "resnet50d"),
    ("timm", "resnetv2_50"),
    ("timm", "efficientnet_b0"),
    ("timm", "convnext_tiny"),
]


@pytest.fixture(scope="module")
def weights():
    """A state dict of `squeezenet1_1`, every tensor of other values."""
    rng = np.random.default_rng(0)
    model = create_model("squeezenet1_1")
    shapes = variable_shapes(model, "squeezenet1_1")
    variables = {path: rng.standard_normal(shape) for path, shape in shapes.items()}
    return export_torch("squeezenet1_1", unflatten_dict(variables, sep="/"))


@pytest.mark.parametrize(("library", "name"), ROUND_TRIPS)
def test_exported_weights_are_those_imported(library, name, shared):
    weights = references.load(shared / "parity" / library / f"{name}.npz")["weights"]
    back = export_torch(name, import_torch(name, weights, library), library)
    assert set(back) == set(weights)
    for key, value in weights.items():
        assert back[key].dtype == value.dtype
        np.testing.assert_array_equal(back[key], value, err_msg=key)


def test_weights_pass_from_one_library_to_another(shared):
    """timm's and torchvision's ConvNeXt are one network: logits of one, names of the other."""
    variables = {}
    for library in ("torchvision", "timm"):
        reference = references.load(shared / "parity" / library / "convnext_tiny.npz")
        variables[library] = import_torch("convnext_tiny", reference["weights"], library)
    moved = export_torch("convnext_tiny", variables["timm"], "torchvision")
    again = import_torch("convnext_tiny", moved, "torchvision")
    jax.tree.map(np.testing.assert_array_equal, again, variables["timm"])
    assert jax.tree.structure(again) == jax.tree.structure(variables["torchvision"])


def test_another_epsilon_goes_into_the_variances(shared):
    """timm's MobileNetV3 has 1e-5 where ours, as torchvision's, has 1e-3."""
    path = shared / "parity" / "timm" / "mobilenetv3_large_100.npz"
    weights = references.load(path)["weights"]
    variables = import_torch("mobilenetv3_large_100", weights, "timm")
    variance = variables["batch_stats"]["backbone"]["bn1"]["var"]
    np.testing.assert_allclose(variance + 1e-3, weights["bn1.running_var"] + 1e-5, rtol=1e-6)
    with_theirs = import_torch("mobilenet_v3_large", weights, "timm", epsilon=1e-5)
    variance = with_theirs["batch_stats"]["backbone"]["bn1"]["var"]
    np.testing.assert_array_equal(variance, weights["bn1.running_var"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features.3.squeeze.bias": None}, "missing features.3.squeeze.bias"),
        ({"features.99.bias": np.zeros(3)}, "left over features.99.bias"),
        (
            {"features.3.squeeze.bias": np.zeros(17, np.float32)},
            r"expected floats features.3.squeeze.bias \(16,\) \(came float32 \(17,\)\)",
        ),
        (
            {"features.3.squeeze.weight": np.zeros((64, 16, 1, 1), np.float32)},
            r"features.3.squeeze.weight \(16, 64, 1, 1\) \(came float32 \(64, 16, 1, 1\)\)",
        ),
        ({"features.3.squeeze.bias": np.zeros(16, int)}, "squeeze.bias .*came int64"),
        (
            {
                "classifier.1.weight": np.zeros((10, 512, 1, 1), np.float32),
                "classifier.1.bias": np.zeros(10, np.float32),
            },
            r"classifier.1.bias \(1000,\) \(came float32 \(10,\)\).*num_classes=… or drop_head",
        ),
        ({"features.num_batches_tracked": np.zeros(())}, "left over features.num_batches_tracked"),
    ],
)
def test_what_does_not_fit_is_named(weights, change, message):
    changed = {k: x for k, x in {**weights, **change}.items() if x is not None}
    with pytest.raises(UserError, match=f"weights of squeezenet1_1 for torchvision: .*{message}"):
        import_torch("squeezenet1_1", changed)


def test_a_head_of_other_classes_on_request(weights):
    other = weights | {
        "classifier.1.weight": np.ones((10, 512, 1, 1), np.float32),
        "classifier.1.bias": np.ones(10, np.float32),
    }
    variables = import_torch("squeezenet1_1", other, num_classes=10)
    assert variables["params"]["head"]["kernel"].shape == (512, 10)
    back = export_torch("squeezenet1_1", variables)
    np.testing.assert_array_equal(back["classifier.1.weight"], other["classifier.1.weight"])
    headless = import_torch("squeezenet1_1", other, drop_head=True)
    assert "head" not in headless["params"]
    without = {key: x for key, x in other.items() if not key.startswith("classifier")}
    again = import_torch("squeezenet1_1", without, drop_head=True)
    jax.tree.map(np.testing.assert_array_equal, headless, again)
    with pytest.raises(UserError, match="left over more"):
        import_torch("squeezenet1_1", {**other, "more": np.zeros(1)}, drop_head=True)


def test_what_is_no_state_dict_and_classes_without_a_head(weights):
    with pytest.raises(UserError, match="as read_state_dict gives of a file"):
        import_torch("squeezenet1_1", "squeezenet.pth")
    with pytest.raises(UserError, match="with drop_head there are no classes"):
        import_torch("squeezenet1_1", weights, drop_head=True, num_classes=7)


def test_tensors_of_pytorch(weights):
    torch = pytest.importorskip("torch")
    tensors = {k: torch.tensor(x).bfloat16().requires_grad_() for k, x in weights.items()}
    variables = import_torch("squeezenet1_1", tensors)
    back = export_torch("squeezenet1_1", variables)
    for key, tensor in tensors.items():
        np.testing.assert_array_equal(back[key], tensor.detach().float().numpy())


def test_other_channels_and_half_precision(weights):
    gray = {key: x.astype(np.float16) for key, x in weights.items()}
    gray["features.0.weight"] = gray["features.0.weight"][:, :1]
    variables = import_torch("squeezenet1_1", gray, in_channels=1)
    assert variables["params"]["backbone"]["conv1"]["kernel"].shape == (3, 3, 1, 64)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype(np.float32)}
    assert export_torch("squeezenet1_1", variables)["features.0.weight"].shape == (64, 1, 3, 3)
    with pytest.raises(UserError, match="features.0.weight"):
        import_torch("squeezenet1_1", gray)


def test_older_names_of_densenet(shared):
    reference = references.load(shared / "parity" / "torchvision" / "densenet121.npz")
    weights = reference["weights"]
    older = {
        key.replace("norm1.", "norm.1.").replace("conv2.", "conv.2."): weights[key]
        for key in weights
    }
    assert set(older) != set(weights)
    ours = import_torch("densenet121", weights)
    jax.tree.map(np.testing.assert_array_equal, import_torch("densenet121", older), ours)


def test_weights_without_auxiliary_heads(shared):
    path = shared / "parity" / "torchvision" / "googlenet.npz"
    weights = references.load(path)["weights"]
    fewer = {key: x for key, x in weights.items() if not key.startswith("aux")}
    with pytest.raises(UserError, match=r"missing aux1.*; where there are no .* auxiliary=\(\)"):
        import_torch("googlenet", fewer)
    variables = import_torch("googlenet", fewer, auxiliary=())
    assert "auxiliary1" not in variables["params"]
    assert set(export_torch("googlenet", variables, auxiliary=())) == set(fewer)


def test_a_tensor_by_two_names_is_refused(shared):
    weights = references.load(shared / "parity" / "torchvision" / "densenet121.npz")["weights"]
    name = "features.denseblock1.denselayer1.norm1.weight"
    twice = {**weights, name.replace("norm1", "norm.1"): weights[name] + 99}
    with pytest.raises(UserError, match=f"{name} is there twice"):
        import_torch("densenet121", twice)


def test_names_and_libraries_that_are_not_there():
    with pytest.raises(UserError, match="no table of names of 'lenet5' in torchvision"):
        import_torch("lenet5", {})
    with pytest.raises(UserError, match="'seresnet50' in torchvision; timm has it"):
        import_torch("seresnet50", {})
    with pytest.raises(UserError, match="unknown library 'keras'; known: timm, torchvision"):
        import_torch("resnet50", {}, "keras")
    with pytest.raises(UserError, match="did you mean 'resnet50'"):
        import_torch("resnt50", {})


def test_variables_that_do_not_fit_are_not_exported(weights):
    variables = import_torch("squeezenet1_1", weights)
    fewer = jax.tree.map(lambda x: x, variables)
    del fewer["params"]["backbone"]["fire3"]
    with pytest.raises(UserError, match="missing params/backbone/fire3/expand1x1/bias"):
        export_torch("squeezenet1_1", fewer)
    for nothing in ({}, variables["params"], {"params": {"head": {"bias": np.zeros(())}}}):
        with pytest.raises(UserError, match="expected its params and batch_stats"):
            export_torch("squeezenet1_1", nothing)
    with pytest.raises(UserError, match="at least 1 channel"):
        import_torch("squeezenet1_1", weights, in_channels=0)
    wrong = jax.tree.map(lambda x: x, variables)
    wrong["params"]["backbone"]["fire3"]["squeeze"]["bias"] = np.zeros(3)
    with pytest.raises(UserError, match=r"fire3/squeeze/bias \(16,\) \(came \(3,\)\)"):
        export_torch("squeezenet1_1", wrong)
