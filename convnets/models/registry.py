"""Models by name."""

from fnmatch import fnmatchcase

import flax.linen as nn

from ..errors import UserError, unknown
from . import (
    alexnet,
    cifar_resnet,
    convnext,
    deepface,
    densenet,
    efficientnet,
    googlenet,
    hmax,
    inception_v3,
    lenet,
    mobilenet,
    neocognitron,
    perceptron,
    resnet,
    resnet_v2,
    resnet_variants,
    squeezenet,
    stages,
    vgg,
)
from .classifier import Classifier
from .entry import Entry, open_fields, require_options
from .features import Feature, describe_endpoints

FAMILIES = (
    perceptron,
    lenet,
    alexnet,
    vgg,
    googlenet,
    inception_v3,
    cifar_resnet,
    resnet,
    resnet_variants,
    resnet_v2,
    densenet,
    squeezenet,
    mobilenet,
    efficientnet,
    convnext,
    deepface,
    stages,
    hmax,
    neocognitron,
)
MODELS = {name: entry for family in FAMILIES for name, entry in family.MODELS.items()}
FINDERS = (cifar_resnet.find, resnet_v2.find)  # of names by their form: any depth of a family

ALIASES = {  # timm's name -> ours
    "mobilenetv2_100": "mobilenet_v2",
    "mobilenetv2_140": "mobilenet_v2_140",
    "mobilenetv3_large_100": "mobilenet_v3_large",
    "mobilenetv3_small_100": "mobilenet_v3_small",
}


def create_model(name: str, num_classes: int | None = None, **options) -> Classifier:
    """A classifier: a backbone and its head, `model.apply(variables, images, train=…) -> logits`.

    Args:
      name: one of `list_models()`, any depth of a family such as `cifar_resnet{6k + 2}`, or
        timm's name of one of them.
      num_classes: outputs of the head; None for those of the data that the model was made for
        (1000 for ImageNet, 10 for digits, …), 0 for no head.
      options: fields of `Classifier` (`dropout`, `dtype`, …) or of the backbone (`norm`, …) that
        the name leaves open.

    Raises: UserError for an unknown name or option, with the nearest one.

    >>> create_model("resnet50", num_classes=10).num_classes
    10
    """
    entry = _find(name)
    if num_classes is None:
        num_classes = entry.num_classes
    if not hasattr(num_classes, "__index__") or num_classes < 0:
        raise UserError(f"num_classes is a number from 0 on (0 for no head), came {num_classes!r}")
    of_classifier, of_backbone = open_fields(entry.classifier), open_fields(entry.backbone)
    require_options(name, options, of_classifier | of_backbone)
    registry_name = None if options else resolve_name(name)
    backbone = entry.backbone(**_choose(entry, options, of_backbone))
    options = _choose(entry, options, of_classifier)
    return entry.classifier(backbone, num_classes, registry_name=registry_name, **options)


def create_backbone(name: str, **options) -> nn.Module:
    """The backbone of a model, `backbone.apply(variables, images, train=…) -> endpoints`.

    Arguments and errors as in `create_model`, without the options of the head.

    >>> create_backbone("cifar_resnet20").stage_sizes
    (3, 3, 3)
    """
    entry = _find(name)
    of_backbone = open_fields(entry.backbone)
    require_options(f"the backbone of {name}", options, of_backbone)
    return entry.backbone(**_choose(entry, options, of_backbone))


def list_models(pattern: str = "*") -> list[str]:
    """Names that match a shell pattern, sorted. Families have more depths than are listed.

    >>> list_models("lenet*")
    ['lenet1', 'lenet5', 'lenet5_1998']
    """
    return sorted(name for name in MODELS if fnmatchcase(name, pattern))


def feature_info(name: str, **options) -> tuple[Feature, ...]:
    """Name, stride and channels of the backbone's endpoints, in the order of computation.

    >>> [feature.stride for feature in feature_info("cifar_resnet20")]
    [1, 1, 2, 4]
    """
    return describe_endpoints(create_backbone(name, **options), default_image_shape(name))


def default_image_shape(name: str) -> tuple[int, int, int]:
    """`(H, W, C)` of the images that the model was made for.

    >>> default_image_shape("lenet5")
    (28, 28, 1)
    """
    return _find(name).image_shape


def resolve_name(name: str) -> str:
    """Our name of a model, where timm has another one; else the name itself.

    >>> resolve_name("mobilenetv3_large_100"), resolve_name("resnet50")
    ('mobilenet_v3_large', 'resnet50')
    """
    return ALIASES.get(name, name)


def _choose(entry: Entry, options, fields):
    """The given options of some fields, else the entry's defaults; lists as tuples, to hash."""
    chosen = {key: value for key, value in {**entry.defaults, **options}.items() if key in fields}
    return {k: tuple(v) if isinstance(v, list) else v for k, v in chosen.items()}


def _find(name: str) -> Entry:
    if not isinstance(name, str):
        raise UserError(f"expected the name of a model, came {name!r}")
    name = resolve_name(name)
    found = MODELS.get(name) or next(filter(None, (find(name) for find in FINDERS)), None)
    if found is None:
        raise unknown("model", name, MODELS)
    return found
