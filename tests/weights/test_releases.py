"""The table of pretrained models: every name leads to one repository, and models come first."""

import re

import pytest

from convnets.errors import UserError
from convnets.models import list_models
from convnets.weights.preprocessing import IMAGENET_MEAN
from convnets.weights.releases import GROUPS, RELEASES, find_release, list_pretrained


def test_no_name_is_there_twice():
    names = [name for group in GROUPS.values() for name in group.split()]
    assert len(set(names)) == len(names) == len(RELEASES)
    assert len({release.repository for release in RELEASES.values()}) == len(names)
    for name, release in RELEASES.items():
        assert re.fullmatch(r"timm/[a-z0-9_]+\.[a-z0-9_]+", release.repository)
        assert name.split(".")[0] == release.model
        assert len(release.preprocessing.class_names) == 1000


@pytest.mark.parametrize(
    ("name", "repository", "sizes"),
    [  # as in timm 1.0.31
        ("resnet50", "timm/resnet50.tv_in1k", (224, 0.875, "bilinear")),
        ("resnet50.tv2_in1k", "timm/resnet50.tv2_in1k", (176, 0.875, "bilinear")),
        ("resnet50.a1_in1k", "timm/resnet50.a1_in1k", (224, 0.95, "bicubic")),
        ("resnet18.a3_in1k", "timm/resnet18.a3_in1k", (160, 0.95, "bicubic")),
        ("densenet121", "timm/densenet121.tv_in1k", (224, 0.875, "bicubic")),
        ("mobilenet_v2", "timm/mobilenetv2_100.ra_in1k", (224, 0.875, "bicubic")),
        ("mobilenet_v3_large", "timm/mobilenetv3_large_100.ra_in1k", (224, 0.875, "bicubic")),
        ("mobilenet_v3_small", "timm/mobilenetv3_small_100.lamb_in1k", (224, 0.875, "bicubic")),
        ("efficientnet_b3", "timm/efficientnet_b3.ra2_in1k", (288, 0.875, "bicubic")),
        ("convnext_tiny", "timm/convnext_tiny.fb_in1k", (224, 0.875, "bicubic")),
        ("vgg16_bn", "timm/vgg16_bn.tv_in1k", (224, 0.875, "bilinear")),
        ("resnet101d", "timm/resnet101d.ra2_in1k", (256, 0.95, "bicubic")),
        (
            "resnext101_32x16d",
            "timm/resnext101_32x16d.fb_wsl_ig1b_ft_in1k",
            (224, 0.875, "bilinear"),
        ),
    ],
)
def test_what_a_name_means(name, repository, sizes):
    release = find_release(name)
    assert (release.repository, release.preprocessing[:3]) == (repository, sizes)
    assert release.preprocessing.mean == IMAGENET_MEAN


def test_other_means():
    assert find_release("resnetv2_50").preprocessing.mean == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet51", "'resnet51'; did you mean 'resnet"),
        ("resnet50.tv3_in1k", "did you mean 'resnet50.tv"),
        ("zzz", "known: convnext_base"),
    ],
)
def test_unknown_names(name, message):
    with pytest.raises(UserError, match="list_pretrained") as caught:
        find_release(name)
    assert message in str(caught.value)


def test_listing():
    assert list_pretrained("vgg16*") == ["vgg16.tv_in1k", "vgg16_bn.tv_in1k"]
    assert list_pretrained() == sorted(RELEASES)


def test_every_release_is_of_a_model_there_is():
    assert {release.model for release in RELEASES.values()} <= set(list_models())


def test_timms_names_mean_the_same():
    for name in (
        "mobilenetv3_small_100",
        "mobilenet_v3_small",
        "timm/mobilenetv3_small_100.lamb_in1k",
    ):
        assert find_release(name) == RELEASES["mobilenet_v3_small.lamb_in1k"]
    assert find_release("timm/resnet50.a1_in1k") == RELEASES["resnet50.a1_in1k"]
