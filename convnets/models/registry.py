"""Models by name."""

from fnmatch import fnmatchcase

import flax.linen as nn

from ..errors import UserError, unknown
from . import alexnet, cifar_resnet, hmax, lenet, neocognitron, perceptron, resnet, stages
from .classifier import Classifier
from .entry import Entry, open_fields, require_options
from .features import Feature, describe_endpoints

MODELS = perceptron.MODELS | lenet.MODELS | alexnet.MODELS | cifar_resnet.MODELS | resnet.MODELS
MODELS |= stages.MODELS | hmax.MODELS | neocognitron.MODELS


def create_model(name: str, num_classes: int | None = None, **options) -> Classifier:
    """A classifier: a backbone and its head, `model.apply(variables, images, train=…) -> logits`.

    Args:
      name: one of `list_models()`, or any depth of a family such as `cifar_resnet{6k + 2}`.
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
    if num_classes < 0:
        raise UserError(f"num_classes is at least 0 (0 for no head), came {num_classes}")
    of_classifier = open_fields(entry.classifier)
    require_options(name, options, of_classifier | open_fields(entry.backbone))
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}  # to hash
    of_head = {key: value for key, value in options.items() if key in of_classifier}
    of_backbone = {key: value for key, value in options.items() if key not in of_classifier}
    registry_name = None if options else name
    backbone = entry.backbone(**of_backbone)
    return entry.classifier(backbone, num_classes, registry_name=registry_name, **of_head)


def create_backbone(name: str, **options) -> nn.Module:
    """The backbone of a model, `backbone.apply(variables, images, train=…) -> endpoints`.

    Arguments and errors as in `create_model`, without the options of the head.

    >>> create_backbone("cifar_resnet20").stage_sizes
    (3, 3, 3)
    """
    entry = _find(name)
    require_options(f"the backbone of {name}", options, open_fields(entry.backbone))
    return entry.backbone(**options)


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


def _find(name: str) -> Entry:
    entry = MODELS.get(name) or cifar_resnet.find(name)
    if entry is None:
        raise unknown("model", name, MODELS)
    return entry
