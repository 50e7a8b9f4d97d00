"""Networks: backbones from images to named endpoints, a head for them, and both by name."""

from .alexnet import AlexNet, pool_to_row
from .cifar_resnet import subsample_and_pad
from .classifier import Classifier, flatten
from .features import Feature, describe_endpoints
from .folding import Folded, fold_batch_norm
from .hmax import HMAX, sample_prototypes
from .lenet import ClassicLeNet, LeNet5, PartialConv, Subsampling
from .neocognitron import Neocognitron
from .perceptron import MLP, DenseLayers, Pixels
from .registry import create_backbone, create_model, default_image_shape, feature_info, list_models
from .resnet import BasicBlock, Bottleneck, PlainBlock, ResNet, projection
from .stages import Stage, Stages, StageSize, random_connections

__all__ = [
    "HMAX",
    "MLP",
    "AlexNet",
    "BasicBlock",
    "Bottleneck",
    "ClassicLeNet",
    "Classifier",
    "DenseLayers",
    "Feature",
    "Folded",
    "LeNet5",
    "Neocognitron",
    "PartialConv",
    "Pixels",
    "PlainBlock",
    "ResNet",
    "Stage",
    "StageSize",
    "Stages",
    "Subsampling",
    "create_backbone",
    "create_model",
    "default_image_shape",
    "describe_endpoints",
    "feature_info",
    "flatten",
    "fold_batch_norm",
    "list_models",
    "pool_to_row",
    "projection",
    "random_connections",
    "sample_prototypes",
    "subsample_and_pad",
]
