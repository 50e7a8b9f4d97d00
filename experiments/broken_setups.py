"""Networks, data and options that are broken in one way each, and some that are not."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import convnets
from convnets.data.sources import ArraySource
from convnets.layers import BatchNorm, Conv, Dense, constant, he_normal, relu, zeros
from convnets.ops import max_pool, normalization
from convnets.ops.image import Normalization

OPTIONS = {"batch_size": 64, "epochs": 30, "augment": ()}


class SmallNetwork(nn.Module):
    """Two convolutions with batch norm, pooled, and two dense layers."""

    activation: Callable = relu
    norm: Callable[..., nn.Module] = BatchNorm
    kernel_init: Callable = he_normal()
    hidden_bias: Callable = zeros
    num_classes: int = 10

    @nn.compact
    def __call__(self, images, *, train: bool):
        x, conv = images, partial(Conv, kernel_size=3, kernel_init=self.kernel_init)
        for number, features in ((1, 8), (2, 16)):
            x = conv(features, name=f"conv{number}")(x)
            x = self.norm(name=f"bn{number}")(x, train=train)
            x = max_pool(self.activation(x), 2)
        x = x.reshape(x.shape[0], -1)
        dense = partial(Dense, kernel_init=self.kernel_init)
        x = self.activation(dense(64, bias_init=self.hidden_bias, name="dense1")(x))
        return dense(self.num_classes, name="head")(x)


class Setup(NamedTuple):
    """What is examined.

    Attributes:
      build: `(dataset) -> model, dataset, options`.
      wrong: the finding that has to be wrong, as `data: labels`; None where nothing is.
      follows: names, or beginnings of names, of findings that may be wrong or warn as well, for
        what is broken has consequences there.
    """

    build: Callable
    wrong: str | None = None
    follows: tuple[str, ...] = ()


class Swish(nn.Module):
    """`x sigmoid(x)`; its gradient forgets that the sigmoid depends on x."""

    @nn.compact
    def __call__(self, x):
        return _swish(x)


@jax.custom_vjp
def _swish(x):
    return x * jax.nn.sigmoid(x)


_swish.defvjp(lambda x: (_swish(x), x), lambda x, dy: (dy * jax.nn.sigmoid(x),))


class NeverAtTest(BatchNorm):
    """Batch norm whose author had it keep the mode of training, and silenced Flax's complaint."""

    @nn.compact
    def __call__(self, x, *, train: bool):
        channels = (x.shape[-1],)
        scale = self.param("scale", self.scale_init, channels, jnp.float32)
        bias = self.param("bias", self.bias_init, channels, jnp.float32)
        mean = self.variable("batch_stats", "mean", jnp.zeros, channels, jnp.float32)
        variance = self.variable("batch_stats", "var", jnp.ones, channels, jnp.float32)
        moments = normalization.batch_moments(x)
        if self.is_mutable_collection("batch_stats") and not self.is_initializing():
            mean.value = self._follow(mean.value, moments.mean)
            variance.value = self._follow(variance.value, moments.variance)
        return normalization.normalize(x, moments, scale, bias, self.epsilon)


def plain(dataset):
    return SmallNetwork(num_classes=dataset.num_classes), dataset, OPTIONS


def with_model(**fields):
    return lambda dataset: (SmallNetwork(**fields), dataset, OPTIONS)


def with_options(**options):
    return lambda dataset: (SmallNetwork(), dataset, OPTIONS | options)


def with_wrong_gradient(dataset):
    return SmallNetwork(activation=lambda x: Swish()(x)), dataset, OPTIONS


def with_labels_shuffled(dataset):
    labels = np.random.default_rng(0).permutation(dataset.train.labels)
    return with_train(dataset, dataset.train.images, labels)


def without_classes(dataset):
    kept = ~np.isin(dataset.train.labels, (3, 7))
    return with_train(dataset, dataset.train.images[kept], dataset.train.labels[kept])


def with_train(dataset, images, labels):
    return SmallNetwork(), dataclasses.replace(dataset, train=ArraySource(images, labels)), OPTIONS


def with_train_images_in_test(dataset):
    train, test = dataset.train, dataset.test
    half = len(test) // 2
    images = np.concatenate([test.images[:half], train.images[:half]])
    labels = np.concatenate([test.labels[:half], train.labels[:half]])
    leaky = dataclasses.replace(dataset, test=ArraySource(images, labels))
    return SmallNetwork(), leaky, OPTIONS


def not_scaled(dataset):
    """The network is given 0 to 255, as with a normalization written for bytes."""
    bytes_ = Normalization((0.0,), (1 / 255,))
    return SmallNetwork(), dataclasses.replace(dataset, normalization=bytes_), OPTIONS


def lenet5(dataset):
    return convnets.create_model("lenet5", num_classes=10), dataset, OPTIONS


def resnet8(dataset):
    return convnets.create_model("cifar_resnet8", num_classes=10), dataset, OPTIONS


RATE = 1e-3  # of Adam, which suits the small network
LEARNS_NOTHING = ("rate", "overfit", "collapse")

SETUPS = {
    "healthy": Setup(plain),
    "healthy, LeNet-5": Setup(lenet5),
    "healthy, ResNet-8": Setup(resnet8),
    "labels shuffled": Setup(with_labels_shuffled, "data: labels", ("rate", "collapse")),
    "rate 1000 times too large": Setup(
        with_options(learning_rate=1000 * RATE), "rate", ("collapse", "batch-norm: modes")
    ),
    "rate 1000 times too small": Setup(with_options(learning_rate=RATE / 1000), "rate"),
    "wrong custom gradient": Setup(with_wrong_gradient, "gradients", LEARNS_NOTHING),
    "batch norm trains at test": Setup(with_model(norm=NeverAtTest), "batch-norm: test mode"),
    "inputs not scaled": Setup(not_scaled, "data: normalization", LEARNS_NOTHING),
    "all-zero initialization": Setup(
        with_model(kernel_init=zeros), "collapse: weights", LEARNS_NOTHING
    ),
    "a layer of dead ReLUs": Setup(
        with_model(hidden_bias=constant(-100.0)), "collapse: units", LEARNS_NOTHING
    ),
    "train images in test": Setup(with_train_images_in_test, "data: leakage"),
    "classes missing from training": Setup(without_classes, "data: classes"),
}
