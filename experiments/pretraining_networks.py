"""The networks of `pretraining_mnist.py`, and what their layers learn without labels."""

from functools import partial

import flax.linen as nn
import numpy as np

import convnets
from convnets.layers import Conv, Dense, Dropout, glorot_uniform, he_normal, leaky_relu, sigmoid
from convnets.models import Classifier
from convnets.ops import max_pool
from convnets.unsupervised import (
    DenseAutoencoder,
    KMeans,
    clustering_loss,
    mask_pixels,
    reconstruction_loss,
    standardize_units,
)

SCALED_ON = 1000  # images
leaky = partial(leaky_relu, slope=0.1)  # of whose units none dies, as of ReLUs without labels


class DenseNet(nn.Module):
    """Three dense layers of sigmoids, each with dropout; with the classifier's there are four.

    Endpoints: `dense1`, `dense2`, `dense3`, `[B, width]`.
    """

    width: int = 1000
    dropout: float = 0.1

    @nn.compact
    def __call__(self, images, *, train: bool) -> dict:
        x, endpoints = images.reshape(len(images), -1), {}
        for number in range(1, 4):
            dense = Dense(self.width, kernel_init=glorot_uniform(), name=f"dense{number}")
            drop = Dropout(self.dropout, name=f"dropout{number}")
            x = endpoints[f"dense{number}"] = drop(sigmoid(dense(x)), train=train)
        return endpoints


class ConvNet(nn.Module):
    """Two convolutions without padding, each before max pooling, and a dense layer.

    Endpoints: `stage1 [B, 12, 12, maps]`, `stage2 [B, 4, 4, 2 maps]`, `dense [B, width]`.
    """

    maps: int = 32
    width: int = 300
    dropout: float = 0.4

    @nn.compact
    def __call__(self, images, *, train: bool) -> dict:
        x, endpoints = images, {}
        for number in (1, 2):
            conv = Conv(number * self.maps, 5, padding=0, name=f"conv{number}")
            x = endpoints[f"stage{number}"] = max_pool(leaky(conv(x)), 2)
        x = Dropout(self.dropout, name="dropout1")(x.reshape(len(x), -1), train=train)
        x = leaky(Dense(self.width, kernel_init=he_normal(), name="dense")(x))
        x = Dropout(self.dropout, name="dropout2")(x, train=train)
        return {**endpoints, "dense": x}


def create_dense(width: int = 1000):
    """A classifier and its stages: denoising auto-encoders, whose input loses a third of its
    values."""
    learner = DenseAutoencoder((width,), activation=sigmoid, tied=True)
    corrupt = partial(mask_pixels, share=1 / 3)
    objective = partial(reconstruction_loss, corrupt=corrupt, error="cross_entropy")
    denoise = partial(convnets.PretrainingStage, learner, objective)
    stages = [
        denoise("dense1"),
        denoise("dense2", below="dense1"),
        denoise("dense3", below="dense2"),
    ]
    return Classifier(DenseNet(width), num_classes=10), stages


def find_filters(maps: int, layer: str, **where):
    """A stage of k-means on white patches, whose centers become filters. Whitened further they
    are finer, and fewer of them stay strokes: errors on validation are larger."""
    learner = KMeans(maps, memory=100)
    where |= {"patch": 5, "whiten": 1.0, "standardize": SCALED_ON}
    return convnets.PretrainingStage(learner, clustering_loss, layer, **where)


def create_conv(maps: int = 32, width: int = 300):
    """A classifier and its stages; its dense layer stays random until labels come."""
    stages = [find_filters(maps, "conv1"), find_filters(2 * maps, "conv2", below="stage1")]
    return Classifier(ConvNet(maps, width), num_classes=10), stages


def scale_units(model, variables, dataset, layers):
    """The variables with the units of some layers, named from the lowest up, at mean 0 and
    deviation 1 over images without labels: where filters of k-means begin, and random ones can."""
    images = convnets.prepare(
        dataset.train.batch(np.arange(min(SCALED_ON, len(dataset.train))))["image"],
        dataset.normalization,
    )
    for layer in layers:
        variables = standardize_units(model, variables, f"backbone/{layer}", images)
    return variables


NETWORKS = {"4 layers": create_dense, "convolutional": create_conv}
SMALL = {"4 layers": {"width": 8}, "convolutional": {"maps": 4, "width": 8}}  # for --quick
SCALED = {"4 layers": (), "convolutional": ("conv1", "conv2", "dense")}
PRINTED = {"4 layers": 1.0, "convolutional": 0.6}  # % in Ranzato's lecture
