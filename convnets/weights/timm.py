"""The names of timm's models."""

from .layouts import POINTWISE, window_convolution
from .names import BLOCK, DENSENET, INCEPTION_V3, RESNET, VGG_FEATURES, Names, resnet_names

RESNET_D = resnet_names(  # a pooling comes first in the shortcuts, ReLUs are counted in the stem
    (BLOCK + "/conv_shortcut", r"layer\1.{block}.downsample.1"),
    (BLOCK + "/bn_shortcut", r"layer\1.{block}.downsample.2"),
    ("stem_conv1", "conv1.0"),
    ("stem_bn1", "conv1.1"),
    ("stem_conv2", "conv1.3"),
    ("stem_bn2", "conv1.4"),
    ("conv1", "conv1.6"),
)
RESNET_V2 = Names(
    (
        ("conv1", "stem.conv"),
        (BLOCK + r"/bn(\d)", r"stages.{stage}.blocks.{block}.norm\2"),
        (BLOCK + r"/conv(\d)", r"stages.{stage}.blocks.{block}.conv\2"),
        (BLOCK + "/conv_shortcut", "stages.{stage}.blocks.{block}.downsample.conv"),
        ("bn_last", "norm"),
        ("head", "head.fc"),
    ),
    {"head": POINTWISE},
)
VGG = Names(
    (
        *VGG_FEATURES,
        (r"hidden/dense(\d)", r"pre_logits.fc\1"),
        ("head", "head.fc"),
    ),
    {"hidden/dense1": window_convolution(7), "hidden/dense2": POINTWISE},
)


def _inverted_residuals(*others, epsilon: float | None = None) -> Names:
    place = "blocks.{stage}.{block}"
    return Names(
        (
            ("conv1", "conv_stem"),
            ("bn1", "bn1"),
            (BLOCK + "/expand", place + ".conv_pw"),
            (BLOCK + "/depthwise", place + ".conv_dw"),
            (r"stage1_block\d+/project", place + ".conv_pw"),  # these have no expansion
            (BLOCK + "/project", place + ".conv_pwl"),
            (BLOCK + "/bn_(?:expand|depthwise|project)", place + ".bn{norm}"),
            (BLOCK + "/squeeze_excitation/(reduce|expand)", place + r".se.conv_\2"),
            *others,
            ("head", "classifier"),
        ),
        {".*/squeeze_excitation/.*": POINTWISE, "hidden/dense1": POINTWISE},
        epsilon,
    )


MOBILENET_V2 = EFFICIENTNET = _inverted_residuals(
    ("conv_last", "conv_head"), ("bn_last", "bn2"), epsilon=1e-5
)
MOBILENET_V3 = _inverted_residuals(
    ("conv_last", "blocks.{stages}.0.conv"),
    ("bn_last", "blocks.{stages}.0.bn1"),
    ("hidden/dense1", "conv_head"),
    epsilon=1e-5,
)
CONVNEXT = Names(
    (
        ("stem_conv", "stem.0"),
        ("stem_norm", "stem.1"),
        (r"downsample\d_norm", "stages.{stage}.downsample.0"),
        (r"downsample\d_conv", "stages.{stage}.downsample.1"),
        (BLOCK + "/depthwise", "stages.{stage}.blocks.{block}.conv_dw"),
        (BLOCK + "/norm", "stages.{stage}.blocks.{block}.norm"),
        (BLOCK + "/expand", "stages.{stage}.blocks.{block}.mlp.fc1"),
        (BLOCK + "/project", "stages.{stage}.blocks.{block}.mlp.fc2"),
        (BLOCK + "/layer_scale", "stages.{stage}.blocks.{block}.gamma"),
        ("hidden/norm", "head.norm"),
        ("head", "head.fc"),
    )
)

TABLES = {  # pattern of our models' names -> table
    r"vgg\d+(_bn)?": VGG,
    "inception_v3": INCEPTION_V3,
    r"((wide_|se)?resnet\d+(_2)?)|resnext.*": RESNET,
    r"resnet\d+d": RESNET_D,
    r"resnetv2_\d+": RESNET_V2,
    r"densenet\d+": DENSENET,
    "mobilenet_v2.*": MOBILENET_V2,
    "mobilenet_v3_.*": MOBILENET_V3,
    r"efficientnet_b\d": EFFICIENTNET,
    "convnext_.*": CONVNEXT,
}
