"""The networks of `pretraining_mnist.py`, and what their layers learn without labels."""

from functools import partial

import flax.linen as nn

import convnets
from convnets.layers import Conv, Dense, Dropout, he_normal, relu
from convnets.models import Classifier
from convnets.ops import max_pool
from convnets.unsupervised import DenseAutoencoder, mask_pixels, reconstruction_loss


class DenseNet(nn.Module):
    """Three dense layers, each before dropout; with the classifier's there are four.

    Endpoints: `dense1`, `dense2`, `dense3`, `[B, width]`.
    """

    width: int = 1000
    dropout: float = 0.3

    @nn.compact
    def __call__(self, images, *, train: bool) -> dict:
        x, endpoints = images.reshape(len(images), -1), {}
        for number in range(1, 4):
            x = relu(Dense(self.width, kernel_init=he_normal(), name=f"dense{number}")(x))
            endpoints[f"dense{number}"] = x
            x = Dropout(self.dropout, name=f"dropout{number}")(x, train=train)
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
            x = endpoints[f"stage{number}"] = max_pool(relu(conv(x)), 2)
        x = Dropout(self.dropout, name="dropout1")(x.reshape(len(x), -1), train=train)
        x = relu(Dense(self.width, kernel_init=he_normal(), name="dense")(x))
        x = Dropout(self.dropout, name="dropout2")(x, train=train)
        return {**endpoints, "dense": x}


def denoise(features: int, layer: str, *, share: float = 0.25, **where) -> convnets.Stage:
    """A stage of a denoising auto-encoder of one layer, whose input loses a share of its values."""
    learner = DenseAutoencoder((features,), activation=relu, kernel_init=he_normal())
    objective = partial(reconstruction_loss, corrupt=partial(mask_pixels, share=share))
    return convnets.Stage(learner, objective, layer, **where)


def create_dense(width: int = 1000):
    """A classifier and its stages."""
    stages = [
        denoise(width, "dense1"),
        denoise(width, "dense2", below="dense1"),
        denoise(width, "dense3", below="dense2"),
    ]
    return Classifier(DenseNet(width), num_classes=10), stages


def create_conv(maps: int = 32, width: int = 300):
    """A classifier and its stages: filters are learned on patches."""
    stages = [
        denoise(maps, "conv1", patch=5, patches=2),
        denoise(2 * maps, "conv2", below="stage1", patch=5, patches=2),
        denoise(width, "dense", below="stage2"),
    ]
    return Classifier(ConvNet(maps, width), num_classes=10), stages


NETWORKS = {"4 layers": create_dense, "convolutional": create_conv}
PRINTED = {"4 layers": 1.0, "convolutional": 0.6}  # % in Ranzato's lecture
