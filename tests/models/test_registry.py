from functools import partial

import jax
import jax.numpy as jnp
import pytest

from convnets.errors import UserError
from convnets.layers import BatchNorm
from convnets.models import (
    create_backbone,
    create_model,
    default_image_shape,
    feature_info,
    list_models,
)
from convnets.models.entry import open_fields
from convnets.models.registry import MODELS


def test_list_is_sorted_and_filtered():
    names = list_models("*resnet*")
    assert names == sorted(names)
    assert {"resnet152", "cifar_resnet1202", "cifar_resnet20_projection"} <= {*names}
    assert list_models("resnet?0") == ["resnet50"]
    assert list_models("nothing*") == []


@pytest.mark.parametrize("create", [create_model, create_backbone, feature_info])
def test_unknown_name_suggests_the_nearest(create):
    with pytest.raises(UserError, match="unknown model 'resnt50'; did you mean 'resnet50'"):
        create("resnt50")


def test_unknown_option_suggests_the_nearest_or_lists_all():
    with pytest.raises(UserError, match=r"resnet50 has no option 'drpout'; did you mean 'dropout'"):
        create_model("resnet50", drpout=0.5)
    with pytest.raises(UserError, match=r"known: activation, auxiliary, .*, kernel_init, pool$"):
        create_model("mlp", width=3)
    with pytest.raises(UserError, match="the backbone of mlp has no option 'dropout'"):
        create_backbone("mlp", dropout=0.5)


def test_what_a_name_means_is_no_option():
    with pytest.raises(UserError, match="stage_sizes"):
        create_model("resnet18", stage_sizes=(1, 1, 1, 1))
    with pytest.raises(UserError, match="hidden"):
        create_model("lenet5", hidden=None)
    with pytest.raises(UserError, match="backbone"):
        create_model("lenet5", backbone=None)


def test_options_reach_their_owner():
    norm = partial(BatchNorm, group_size=4)
    model = create_model("cifar_resnet20", 7, dropout=0.25, norm=norm)
    assert (model.num_classes, model.dropout, model.backbone.norm) == (7, 0.25, norm)
    assert feature_info("mlp", features=(5, 3))[-1].channels == 3


def test_classes_and_shapes_by_default():
    assert create_model("resnet18").num_classes == 1000
    assert create_model("lenet1").num_classes == 10
    assert create_model("lenet1", 0).num_classes == 0
    with pytest.raises(UserError, match="-1"):
        create_model("lenet1", -1)
    assert default_image_shape("mlp") == (28, 28, 1)
    assert default_image_shape("cifar_plain8") == (32, 32, 3)
    assert default_image_shape("plain34") == (224, 224, 3)


@pytest.mark.parametrize("name", MODELS)
def test_head_and_backbone_share_no_option(name):
    entry = MODELS[name]
    assert not open_fields(entry.classifier) & open_fields(entry.backbone)
    assert not any(option.startswith("_") for option in open_fields(entry.backbone))


def test_a_list_is_taken_as_a_tuple_and_a_batch_may_be_empty():
    model = create_model("mlp", num_classes=3, features=[16])
    variables = model.init(jax.random.key(0), jnp.zeros((1, 4, 4, 1)), train=False)
    assert hash(model) is not None
    assert model.apply(variables, jnp.zeros((0, 4, 4, 1)), train=False).shape == (0, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": "7"}, "num_classes is a number from 0 on .* came '7'"),
        ({"num_classes": 2.5}, "came 2.5"),
        ({"dropout": 2.0}, r"dropout is a rate in \[0, 1\), came 2.0"),
        ({"pool": "typo"}, "unknown pool 'typo'"),
        ({"pool": None}, "unknown pool None"),
        ({"dtype": "typo"}, "dtype is one of floating numbers"),
        ({"dtype": "int32"}, "dtype is one of floating numbers"),
        ({"checkpoint": "yes"}, "checkpoint is True or False, came 'yes'"),
    ],
)
def test_values_that_no_model_takes(options, message):
    with pytest.raises(UserError, match=message):
        create_model("resnet18", **options)
    with pytest.raises(UserError, match="expected the name of a model, came None"):
        create_model(None)
