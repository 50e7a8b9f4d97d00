"""Networks: backbones from images to named endpoints, a head for them, and both by name."""

from .alexnet import AlexNet, TwoTowerAlexNet, pool_to_row
from .cifar_resnet import subsample_and_pad
from .classifier import Classifier, flatten
from .deepface import DeepFace
from .features import Feature, describe_endpoints
from .folding import Folded, fold_batch_norm
from .fully_convolutional import FullyConvolutional, to_fully_convolutional
from .heads import reset_head
from .lenet import ClassicLeNet, LeNet5, PartialConv, Subsampling
from .perceptron import MLP, DenseLayers, Pixels
from .registry import create_backbone, create_model, default_image_shape, feature_info, list_models
from .resnet import BasicBlock, Bottleneck, PlainBlock, ResNet, projection

__all__ = [
    "MLP",
    "AlexNet",
    "BasicBlock",
    "Bottleneck",
    "ClassicLeNet",
    "Classifier",
    "DeepFace",
    "DenseLayers",
    "Feature",
    "Folded",
    "FullyConvolutional",
    "LeNet5",
    "PartialConv",
    "Pixels",
    "PlainBlock",
    "ResNet",
    "Subsampling",
    "TwoTowerAlexNet",
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
    "reset_head",
    "subsample_and_pad",
    "to_fully_convolutional",
]
