"""Tables of names: what one is, and those that torchvision and timm share.

A table belongs to one family of models in one library. Its rules are tried in their order on the
path of each of our layers (without `backbone/`): a pattern that matches the whole path, and a
template of the layer's name there. A template has the pattern's groups, `\\1`, and in braces the
numbers that `naming.py` counts. The names of parameters follow: `kernel` and `scale` are `weight`,
`mean` and `var` are `running_mean` and `running_var`.
"""

from collections.abc import Mapping
from typing import NamedTuple

from .layouts import POINTWISE, Layout


class Names(NamedTuple):
    """One table.

    Attributes:
      rules: pairs (pattern of our paths, template of their names).
      layouts: pattern of our paths -> how their array lies, where `layout_of` is not it.
      epsilon: of their batch norms, where it may differ from the model's own here; else None.
      renamed: older names of theirs, pattern -> template.
    """

    rules: tuple[tuple[str, str], ...]
    layouts: Mapping[str, Layout] = {}
    epsilon: float | None = None
    renamed: tuple[tuple[str, str], ...] = ()


BLOCK = r"stage(\d+)_block\d+"


def resnet_names(*stem_and_shortcuts) -> Names:
    """Residual networks, given the rules of their stem and their shortcuts."""
    return Names(
        (
            *stem_and_shortcuts,
            (r"(conv1|bn1)", r"\1"),
            (BLOCK + "/attention/squeeze_excitation/reduce", r"layer\1.{block}.se.fc1"),
            (BLOCK + "/attention/squeeze_excitation/expand", r"layer\1.{block}.se.fc2"),
            (BLOCK + "/(.*)", r"layer\1.{block}.\2"),
            ("head", "fc"),
        ),
        {".*/squeeze_excitation/.*": POINTWISE},
    )


RESNET = resnet_names(
    (BLOCK + "/conv_shortcut", r"layer\1.{block}.downsample.0"),
    (BLOCK + "/bn_shortcut", r"layer\1.{block}.downsample.1"),
)
VGG_FEATURES = (
    (r"conv\d_\d", "features.{place}"),
    (r"bn\d_\d", "features.{place}"),
)
INCEPTION_V3 = Names(
    (
        (r"conv(1a|2a|2b|4a)/(conv|bn)", r"Conv2d_\1_3x3.\2"),
        (r"conv3b/(conv|bn)", r"Conv2d_3b_1x1.\1"),
        (r"mixed(\w+)/(branch\w+)/(conv|bn)", r"Mixed_\1.\2.\3"),
        (r"auxiliary1/conv1/(conv|bn)", r"AuxLogits.conv0.\1"),
        (r"auxiliary1/conv2/(conv|bn)", r"AuxLogits.conv1.\1"),
        ("auxiliary1/head", "AuxLogits.fc"),
        ("head", "fc"),
    )
)
DENSENET = Names(
    (
        ("conv1", "features.conv0"),
        ("bn1", "features.norm0"),
        (r"stage(\d)_block(\d+)/conv(\d)", r"features.denseblock\1.denselayer\2.conv\3"),
        (r"stage(\d)_block(\d+)/bn(\d)", r"features.denseblock\1.denselayer\2.norm\3"),
        (r"transition(\d)_conv", r"features.transition\1.conv"),
        (r"transition(\d)_bn", r"features.transition\1.norm"),
        ("bn_last", "features.norm5"),
        ("head", "classifier"),
    ),
    renamed=((r"(denselayer\d+\.(?:norm|conv))\.(\d)", r"\1\2"),),
)
