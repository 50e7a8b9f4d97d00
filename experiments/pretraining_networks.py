"""The networks of `pretraining_mnist.py`, and what their layers learn without labels."""

from functools import partial

import flax.linen as nn

import convnets
from convnets.layers import Conv, Dense, Dropout, glorot_uniform, he_normal, leaky_relu, sigmoid
from convnets.models import Classifier
from convnets.ops import max_pool
from convnets.unsupervised import DenseAutoencoder, mask_pixels, reconstruction_loss

leaky = partial(leaky_relu, slope=0.1)  # of whose units none dies, as of ReLUs without labels


class DenseNet(nn.Module):
    """Three dense layers of sigmoids, each before dropout; with the classifier's there are four.

    Endpoints: `dense1`, `dense2`, `dense3`, `[B, width]`.
    """

    width: int = 1000
    dropout: float = 0.3

    @nn.compact
    def __call__(self, images, *, train: bool) -> dict:
        x, endpoints = images.reshape(len(images), -1), {}
        for number in range(1, 4):
            dense = Dense(self.width, kernel_init=glorot_uniform(), name=f"dense{number}")
            x = sigmoid(dense(x))
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
            x = endpoints[f"stage{number}"] = max_pool(leaky(conv(x)), 2)
        x = Dropout(self.dropout, name="dropout1")(x.reshape(len(x), -1), train=train)
        x = leaky(Dense(self.width, kernel_init=he_normal(), name="dense")(x))
        x = Dropout(self.dropout, name="dropout2")(x, train=train)
        return {**endpoints, "dense": x}


def denoise(features: int, layer: str, activation, *, error="squared_error", **where):
    """A stage of a denoising auto-encoder of one layer, whose input loses a third of its values."""
    learner = DenseAutoencoder((features,), activation=activation, tied=True)
    corrupt = partial(mask_pixels, share=1 / 3)
    objective = partial(reconstruction_loss, corrupt=corrupt, error=error)
    return convnets.PretrainingStage(learner, objective, layer, **where)


def create_dense(width: int = 1000):
    """A classifier and its stages."""
    denoise_layer = partial(denoise, width, activation=sigmoid, error="cross_entropy")
    stages = [
        denoise_layer("dense1"),
        denoise_layer("dense2", below="dense1"),
        denoise_layer("dense3", below="dense2"),
    ]
    return Classifier(DenseNet(width), num_classes=10), stages


def create_conv(maps: int = 32, width: int = 300):
    """A classifier and its stages: filters are learned on patches."""
    stages = [
        denoise(maps, "conv1", leaky, patch=5, patches=2),
        denoise(2 * maps, "conv2", leaky, below="stage1", patch=5, patches=2),
        denoise(width, "dense", leaky, below="stage2"),
    ]
    return Classifier(ConvNet(maps, width), num_classes=10), stages


NETWORKS = {"4 layers": create_dense, "convolutional": create_conv}
PRINTED = {"4 layers": 1.0, "convolutional": 0.6}  # % in Ranzato's lecture
