"""Pretrained models that can be fetched by name: where they lie, and what they want of an image.

A name is a model's and a tag, `resnet50.tv_in1k`: who trained it (`tv`: torchvision, `fb`:
Facebook, `gluon`: MXNet's; `a1`, `ra2`, … are recipes of timm), on what (`in1k`: ImageNet,
`in12k`, `in22k`: more of it, `ig1b`: a billion pictures by their hashtags), and what it was tuned
on after (`ft_in1k`). The repositories are those of timm, whose own names for some models differ.

Reference: Wightman, "PyTorch Image Models"; for the recipes a1 to d, Wightman, Touvron, Jégou 2021,
"ResNet strikes back".
"""

from fnmatch import fnmatchcase
from typing import NamedTuple

from ..errors import UserError, suggest
from ..models import resolve_name
from .preprocessing import Preprocessing, imagenet_classes

HALF = (0.5, 0.5, 0.5)
# Within a model the first name is the one meant where no tag is given.
BILINEAR = """
resnet18.tv_in1k resnet34.tv_in1k resnet50.tv_in1k resnet101.tv_in1k resnet152.tv_in1k
wide_resnet50_2.tv_in1k wide_resnet101_2.tv_in1k
resnext50_32x4d.tv_in1k resnext101_32x8d.tv_in1k resnext101_64x4d.tv_in1k
resnet18.fb_swsl_ig1b_ft_in1k resnet50.fb_swsl_ig1b_ft_in1k resnext50_32x4d.fb_swsl_ig1b_ft_in1k
resnet18.fb_ssl_yfcc100m_ft_in1k resnet50.fb_ssl_yfcc100m_ft_in1k
resnext50_32x4d.fb_ssl_yfcc100m_ft_in1k
resnext101_32x8d.fb_wsl_ig1b_ft_in1k resnext101_32x8d.fb_swsl_ig1b_ft_in1k
resnext101_32x8d.fb_ssl_yfcc100m_ft_in1k
resnext101_32x16d.fb_wsl_ig1b_ft_in1k resnext101_32x16d.fb_swsl_ig1b_ft_in1k
resnext101_32x16d.fb_ssl_yfcc100m_ft_in1k
resnext101_32x32d.fb_wsl_ig1b_ft_in1k resnext101_32x48d.fb_wsl_ig1b_ft_in1k
vgg11.tv_in1k vgg13.tv_in1k vgg16.tv_in1k vgg19.tv_in1k
vgg11_bn.tv_in1k vgg13_bn.tv_in1k vgg16_bn.tv_in1k vgg19_bn.tv_in1k
"""
BICUBIC = """
resnet18d.ra2_in1k resnet26d.bt_in1k resnet34d.ra2_in1k resnet50d.ra2_in1k
resnet34.bt_in1k resnet50.ra_in1k resnet50.ram_in1k resnet50.am_in1k resnet50.bt_in1k
resnet18.gluon_in1k resnet34.gluon_in1k resnet50.gluon_in1k resnet101.gluon_in1k
resnet152.gluon_in1k resnet50d.gluon_in1k resnet101d.gluon_in1k resnet152d.gluon_in1k
resnext50_32x4d.gluon_in1k resnext101_64x4d.gluon_in1k resnext50_32x4d.ra_in1k
wide_resnet50_2.racm_in1k seresnet50.ra2_in1k
densenet121.tv_in1k densenet121.ra_in1k densenet161.tv_in1k densenet169.tv_in1k densenet201.tv_in1k
mobilenetv2_100.ra_in1k mobilenetv3_large_100.ra_in1k mobilenetv3_small_100.lamb_in1k
efficientnet_b0.ra_in1k efficientnet_b1.ft_in1k
convnext_tiny.fb_in1k convnext_small.fb_in1k convnext_base.fb_in1k convnext_large.fb_in1k
convnext_tiny.fb_in22k_ft_in1k convnext_small.fb_in22k_ft_in1k convnext_base.fb_in22k_ft_in1k
convnext_large.fb_in22k_ft_in1k
"""
LITTLE_CROPPED = """
resnet18.a1_in1k resnet18.a2_in1k resnet34.a1_in1k resnet34.a2_in1k
resnet50.a1_in1k resnet50.a2_in1k resnet50.b1k_in1k resnet50.b2k_in1k resnet50.c1_in1k
resnet50.c2_in1k resnet50.d_in1k resnet101.a1h_in1k resnet101.a1_in1k resnet101.a2_in1k
resnet152.a1h_in1k resnet152.a1_in1k resnet152.a2_in1k resnet50d.a1_in1k resnet50d.a2_in1k
resnext50_32x4d.a1h_in1k resnext50_32x4d.a1_in1k resnext50_32x4d.a2_in1k resnext101_64x4d.c1_in1k
seresnet50.a1_in1k seresnet50.a2_in1k convnext_tiny.in12k_ft_in1k convnext_small.in12k_ft_in1k
"""
TRAINED_AT_160 = """
resnet18.a3_in1k resnet34.a3_in1k resnet50.a3_in1k resnet101.a3_in1k resnet152.a3_in1k
resnet50d.a3_in1k resnext50_32x4d.a3_in1k seresnet50.a3_in1k
"""
TRAINED_AT_176 = """
resnet50.tv2_in1k resnet101.tv2_in1k resnet152.tv2_in1k wide_resnet50_2.tv2_in1k
wide_resnet101_2.tv2_in1k resnext50_32x4d.tv2_in1k resnext101_32x8d.tv2_in1k
"""
TRAINED_AT_256 = "resnet101d.ra2_in1k resnet152d.ra2_in1k resnet200d.ra2_in1k"
GROUPS = {
    Preprocessing(224, 0.875, "bilinear"): BILINEAR,
    Preprocessing(256, 0.95, "bicubic"): TRAINED_AT_256,
    Preprocessing(224, 0.875, "bicubic"): BICUBIC,
    Preprocessing(224, 0.95, "bicubic"): LITTLE_CROPPED,
    Preprocessing(160, 0.95, "bicubic"): TRAINED_AT_160,
    Preprocessing(176, 0.875, "bilinear"): TRAINED_AT_176,
    Preprocessing(176, 0.9, "bicubic"): "resnet50.a1h_in1k",
    Preprocessing(224, 0.95, "bicubic", HALF, HALF): "resnetv2_50.a1h_in1k resnetv2_101.a1h_in1k",
    Preprocessing(256, 0.875, "bicubic"): "efficientnet_b2.ra_in1k",
    Preprocessing(288, 0.875, "bicubic"): "efficientnet_b3.ra2_in1k",
    Preprocessing(320, 0.875, "bicubic"): "efficientnet_b4.ra2_in1k",
}


class Release(NamedTuple):
    """One model's weights.

    Attributes:
      model: its name for `convnets.create_model`.
      repository: on the Hugging Face hub; None for weights that only a file holds.
      preprocessing: what the weights want of an image.
    """

    model: str
    repository: str | None
    preprocessing: Preprocessing


def _releases():
    for preprocessing, names in GROUPS.items():
        for name in names.split():
            model, tag = name.split(".")
            model = resolve_name(model)
            named = preprocessing._replace(class_names=imagenet_classes())
            yield f"{model}.{tag}", Release(model, f"timm/{name}", named)


RELEASES = dict(_releases())


def list_pretrained(pattern: str = "*") -> list[str]:
    """Names for `load_pretrained` that match a shell pattern, sorted, each with its tag.

    >>> list_pretrained("resnet50.tv*")
    ['resnet50.tv2_in1k', 'resnet50.tv_in1k']
    """
    return sorted(name for name in RELEASES if fnmatchcase(name, pattern))


def find_release(name: str) -> Release:
    """What a name stands for: a model with a tag, or without, which means the plainest training
    (torchvision's first, where there is one). timm's names of models do too.

    Raises: UserError for an unknown name, with the nearest one.

    >>> find_release("mobilenet_v2").repository
    'timm/mobilenetv2_100.ra_in1k'
    """
    model, dot, tag = str(name).removeprefix("timm/").partition(".")
    name = resolve_name(model) + dot + tag
    if name in RELEASES:
        return RELEASES[name]
    for release in RELEASES.values():
        if release.model == name:
            return release
    models = {release.model for release in RELEASES.values()}
    tagged = [release for release in RELEASES if release.startswith(f"{name.split('.')[0]}.")]
    raise UserError(
        f"unknown pretrained model {name!r}; {suggest(name, tagged or models)}; "
        "convnets.weights.list_pretrained() lists them all, file=PATH reads a file of any model"
    )
