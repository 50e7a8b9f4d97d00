"""Networks: backbones from images to named endpoints, a head for them, and both by name."""

from .alexnet import AlexNet, TwoTowerAlexNet
from .cifar_resnet import subsample_and_pad
from .classifier import POOLS, Classifier, flatten, pool_to_row
from .convnext import ConvNeXt, ConvNeXtBlock
from .deepface import DeepFace
from .densenet import DenseLayer, DenseNet
from .depth import decay_by_depth, list_layers
from .efficientnet import EfficientNet
from .features import Feature, describe_endpoints
from .fields import ReceptiveField, Spans, receptive_fields, trace_spans
from .folding import Folded, fold_batch_norm
from .fully_convolutional import FullyConvolutional, to_fully_convolutional
from .googlenet import ConvUnit, GoogLeNet, Inception
from .heads import reset_head
from .hmax import HMAX, sample_prototypes
from .inception_v3 import InceptionV3
from .inverted_residual import InvertedResidual, round_channels
from .lenet import ClassicLeNet, LeNet5, PartialConv, Subsampling
from .mobilenet import MobileNet
from .neocognitron import Neocognitron
from .perceptron import MLP, DenseLayers, Pixels
from .registry import (
    create_backbone,
    create_model,
    default_image_shape,
    feature_info,
    list_models,
    resolve_name,
)
from .resnet import BasicBlock, Bottleneck, PlainBlock, ResNet, projection
from .resnet_v2 import PreActivationBlock, PreActivationBottleneck, ResNetV2
from .resnet_variants import deep_stem, pooled_projection
from .squeezenet import Fire, SqueezeNet
from .stages import Stage, Stages, StageSize, random_connections
from .vgg import VGG

__all__ = [
    "HMAX",
    "MLP",
    "POOLS",
    "VGG",
    "AlexNet",
    "BasicBlock",
    "Bottleneck",
    "ClassicLeNet",
    "Classifier",
    "ConvNeXt",
    "ConvNeXtBlock",
    "ConvUnit",
    "DeepFace",
    "DenseLayer",
    "DenseLayers",
    "DenseNet",
    "EfficientNet",
    "Feature",
    "Fire",
    "Folded",
    "FullyConvolutional",
    "GoogLeNet",
    "Inception",
    "InceptionV3",
    "InvertedResidual",
    "LeNet5",
    "MobileNet",
    "Neocognitron",
    "PartialConv",
    "Pixels",
    "PlainBlock",
    "PreActivationBlock",
    "PreActivationBottleneck",
    "ReceptiveField",
    "ResNet",
    "ResNetV2",
    "Spans",
    "SqueezeNet",
    "Stage",
    "StageSize",
    "Stages",
    "Subsampling",
    "TwoTowerAlexNet",
    "create_backbone",
    "create_model",
    "decay_by_depth",
    "deep_stem",
    "default_image_shape",
    "describe_endpoints",
    "feature_info",
    "flatten",
    "fold_batch_norm",
    "list_layers",
    "list_models",
    "pool_to_row",
    "pooled_projection",
    "projection",
    "random_connections",
    "receptive_fields",
    "reset_head",
    "resolve_name",
    "round_channels",
    "sample_prototypes",
    "subsample_and_pad",
    "to_fully_convolutional",
    "trace_spans",
]
