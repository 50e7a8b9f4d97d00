"""The names of torchvision's models."""

from .layouts import CHANNEL, POINTWISE, window
from .names import BLOCK, DENSENET, INCEPTION_V3, RESNET, VGG_FEATURES, Names

ALEXNET = Names(
    (
        ("conv1", "features.0"),
        ("conv2", "features.3"),
        ("conv3", "features.6"),
        ("conv4", "features.8"),
        ("conv5", "features.10"),
        ("hidden/dense1", "classifier.1"),
        ("hidden/dense2", "classifier.4"),
        ("head", "classifier.6"),
    ),
    {"hidden/dense1": window(6)},
)
VGG = Names(
    (
        *VGG_FEATURES,
        ("hidden/dense1", "classifier.0"),
        ("hidden/dense2", "classifier.3"),
        ("head", "classifier.6"),
    ),
    {"hidden/dense1": window(7)},
)
GOOGLENET = Names(
    (
        (r"(conv\d)/(conv|bn)", r"\1.\2"),
        (r"(inception\w+)/branch1/(conv|bn)", r"\1.branch1.\2"),
        (r"(inception\w+)/branch([23])_reduce/(conv|bn)", r"\1.branch\2.0.\3"),
        (r"(inception\w+)/branch([234])/(conv|bn)", r"\1.branch\2.1.\3"),
        (r"auxiliary(\d)/conv/(conv|bn)", r"aux\1.conv.\2"),
        (r"auxiliary(\d)/dense1", r"aux\1.fc1"),
        (r"auxiliary(\d)/head", r"aux\1.fc2"),
        ("head", "fc"),
    ),
    {r"auxiliary\d/dense1": window(4)},
)


def _squeezenet(*places: int) -> Names:
    fires = ((rf"fire{n}/(\w+)", rf"features.{place}.\1") for n, place in enumerate(places, 2))
    rules = (("conv1", "features.0"), *fires, ("head", "classifier.1"))
    return Names(rules, {"head": POINTWISE})


MOBILENET_V2 = Names(
    (
        ("conv1", "features.0.0"),
        ("bn1", "features.0.1"),
        (BLOCK + "/project", "features.{flat}.conv.{unit}"),
        (BLOCK + "/bn_project", "features.{flat}.conv.{next_unit}"),
        (BLOCK + "/(?:expand|depthwise)", "features.{flat}.conv.{unit}.0"),
        (BLOCK + "/bn_(?:expand|depthwise)", "features.{flat}.conv.{unit}.1"),
        ("conv_last", "features.{last}.0"),
        ("bn_last", "features.{last}.1"),
        ("head", "classifier.1"),
    )
)


def _inverted_residuals(place: str, *others) -> Names:
    return Names(
        (
            ("conv1", "features.0.0"),
            ("bn1", "features.0.1"),
            (BLOCK + "/(?:expand|depthwise|project)", place + ".block.{unit}.0"),
            (BLOCK + "/bn_(?:expand|depthwise|project)", place + ".block.{unit}.1"),
            (BLOCK + "/squeeze_excitation/reduce", place + ".block.{unit}.fc1"),
            (BLOCK + "/squeeze_excitation/expand", place + ".block.{unit}.fc2"),
            *others,
        ),
        {".*/squeeze_excitation/.*": POINTWISE},
    )


MOBILENET_V3 = _inverted_residuals(
    "features.{flat}",
    ("conv_last", "features.{last}.0"),
    ("bn_last", "features.{last}.1"),
    ("hidden/dense1", "classifier.0"),
    ("head", "classifier.3"),
)
EFFICIENTNET = _inverted_residuals(
    r"features.\1.{block}",
    ("conv_last", "features.8.0"),
    ("bn_last", "features.8.1"),
    ("head", "classifier.1"),
)
CONVNEXT = Names(
    (
        ("stem_conv", "features.0.0"),
        ("stem_norm", "features.0.1"),
        (r"downsample\d_norm", "features.{downsample}.0"),
        (r"downsample\d_conv", "features.{downsample}.1"),
        (BLOCK + "/depthwise", "features.{odd}.{block}.block.0"),
        (BLOCK + "/norm", "features.{odd}.{block}.block.2"),
        (BLOCK + "/expand", "features.{odd}.{block}.block.3"),
        (BLOCK + "/project", "features.{odd}.{block}.block.5"),
        (BLOCK + "/layer_scale", "features.{odd}.{block}.layer_scale"),
        ("hidden/norm", "classifier.0"),
        ("head", "classifier.2"),
    ),
    {".*/layer_scale": CHANNEL},
)

TABLES = {  # pattern of our models' names -> table
    "alexnet": ALEXNET,
    r"vgg\d+(_bn)?": VGG,
    "googlenet": GOOGLENET,
    "inception_v3": INCEPTION_V3,
    r"(wide_)?resnet\d+(_2)?|resnext.*": RESNET,
    r"densenet\d+": DENSENET,
    "squeezenet1_0": _squeezenet(3, 4, 5, 7, 8, 9, 10, 12),
    "squeezenet1_1": _squeezenet(3, 4, 6, 7, 9, 10, 11, 12),
    "mobilenet_v2": MOBILENET_V2,
    "mobilenet_v3_.*": MOBILENET_V3,
    r"efficientnet_b\d": EFFICIENTNET,
    "convnext_.*": CONVNEXT,
}
