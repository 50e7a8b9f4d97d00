import jax
import numpy as np
import pytest

from convnets.errors import UserError
from convnets.models import create_backbone, create_model, fold_batch_norm
from convnets.ops.image import Normalization, prepare
from convnets.visualize import Unit, compute_endpoints, saliency
from convnets.visualize.units import backbone_of, read_unit, resolve_channel, resolve_unit

from .networks import NORMALIZATION, classifier, random_images, random_variables

MODEL, IMAGES = classifier(), random_images()
VARIABLES = random_variables(MODEL, IMAGES)


def test_endpoints_are_the_models_in_its_order():
    images = (IMAGES * 255).astype(np.uint8)
    maps = compute_endpoints(MODEL, VARIABLES, images, normalization=Normalization(*NORMALIZATION))
    assert list(maps) == ["conv1", "pool1", "conv2", "pre_logits", "logits"]
    prepared = prepare(images, Normalization(*NORMALIZATION))
    expected = MODEL.apply(VARIABLES, prepared, train=False, method="endpoints")
    for name, found in maps.items():
        np.testing.assert_allclose(found, expected[name], rtol=1e-5, atol=1e-6)
    backbone = MODEL.backbone
    inside = {name: tree["backbone"] for name, tree in VARIABLES.items()}
    found = compute_endpoints(backbone, inside, prepared)
    np.testing.assert_allclose(found["conv2"], maps["conv2"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("create", [create_model, create_backbone])
def test_a_folded_model_has_the_same_endpoints(create):
    model, images = create("cifar_plain8"), random_images(1, 8, 3)
    variables = random_variables(model, images)
    folded, inside = fold_batch_norm(model, variables, images.shape[1:])
    expected = compute_endpoints(model, variables, images)
    found = compute_endpoints(folded, inside, images)
    assert list(found) == list(expected)
    for name, maps in found.items():
        np.testing.assert_allclose(maps, expected[name], rtol=1e-3, atol=1e-4)
    assert backbone_of(folded) == backbone_of(model)


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        (Unit(), lambda maps: maps["logits"].max(1)),
        (Unit(2), lambda maps: maps["logits"][:, 2]),
        (Unit([1, 0]), lambda maps: maps["logits"][[0, 1], [1, 0]]),
        (Unit(3, "conv2"), lambda maps: maps["conv2"][..., 3].max((1, 2))),
        (Unit(3, "conv2", "mean"), lambda maps: maps["conv2"][..., 3].mean((1, 2))),
        (Unit([3, 4], "conv2", (1, 0)), lambda maps: maps["conv2"][[0, 1], 1, 0, [3, 4]]),
        (Unit(None, "conv2", "mean"), lambda maps: maps["conv2"].mean((1, 2)).max(1)),
        (Unit(None, "conv2"), lambda maps: maps["conv2"].max((1, 2, 3))),
    ],
)
def test_a_unit_is_one_activation_of_each_image(unit, expected):
    maps = compute_endpoints(MODEL, VARIABLES, IMAGES)
    for resolve in (resolve_unit, resolve_channel):
        options = () if resolve is resolve_unit else (None,)
        found = resolve(MODEL, VARIABLES, IMAGES, unit, *options)
        values = read_unit(jax.numpy.asarray(maps[found.endpoint]), found)
        np.testing.assert_allclose(values, expected(maps), rtol=1e-6)


@pytest.mark.parametrize(
    ("unit", "message"),
    [
        (Unit(0, "conv3"), "unknown endpoint 'conv3'; did you mean 'conv"),
        (Unit(3), "logits has the channels 0 to 2, came 3"),
        (Unit([0, 1, 2]), r"ints \[2\] for as many images"),
        (Unit(0.5), "float64"),
        (Unit(0, "conv2", "center"), "unknown place 'center'"),
        (Unit(0, "conv2", (2, 0)), "no place"),
        (Unit(0, place=(0, 0)), "no place"),
        (Unit(0, "conv2", 1), "no place"),
    ],
    ids=str,
)
def test_a_unit_that_is_not_there_is_refused(unit, message):
    with pytest.raises(UserError, match=message):
        resolve_unit(MODEL, VARIABLES, IMAGES, unit)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"unit": 3}, r"as Unit\(3\)"),
        ({"model": "lenet5"}, "flax.linen.Module for the model, came a str"),
        ({"variables": {}}, "those of a model"),
        ({"variables": None}, "not NoneType"),
        ({"variables": {"params": {}}}, "are not those of this"),
        ({"images": IMAGES[..., :1]}, "are not those of this"),
        ({"images": IMAGES.astype(np.int64)}, "came int64"),
        ({"images": 255 * IMAGES}, "divide bytes by 255"),
        ({"images": np.nan * IMAGES}, "not finite"),
        ({"images": IMAGES[:0]}, "there are no images"),
        ({"normalization": (0.5, 0.5)}, "a convnets.Normalization"),
    ],
    ids=lambda given: "-".join(given) if isinstance(given, dict) else "",
)
def test_what_does_not_fit_is_refused_in_one_line(given, message):
    usual = {"model": MODEL, "variables": VARIABLES, "images": IMAGES, "unit": Unit(0)}
    usual["normalization"] = Normalization((0.5, 0.5), (1.0, 1.0))
    arguments = usual | given
    unit, normalization = arguments.pop("unit"), arguments.pop("normalization")
    with pytest.raises(UserError, match=message) as refusal:
        saliency(*arguments.values(), unit, normalization=normalization)
    assert "\n" not in str(refusal.value)


def test_images_have_four_axes():
    with pytest.raises(UserError, match=r"\[B, H, W, C\], came shape \(11, 11, 2\)"):
        compute_endpoints(MODEL, VARIABLES, IMAGES[0])
