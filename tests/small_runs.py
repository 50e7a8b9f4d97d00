"""Short runs on a few real digits, for tests of all that goes on around them."""

import dataclasses
import functools

import flax.linen as nn
import jax
import numpy as np

import convnets
from convnets.fitting import Result
from convnets.layers import BatchNorm, Conv, Dense, Dropout
from convnets.ops import global_average_pool

LINEAR = convnets.create_model("linear", num_classes=10)
PLAIN = {"schedule": "constant", "optimizer": "sgd", "seed": 1}


class Small(nn.Module):
    """All that could differ between devices: batch norm over groups of 6, and dropout."""

    @nn.compact
    def __call__(self, images, *, train: bool):
        x = Conv(4, 5, 3, name="conv")(images)
        x = BatchNorm(group_size=6, name="norm")(x, train=train)
        x = Dropout(0.3, name="dropout")(nn.relu(x), train=train)
        return Dense(10, name="head")(global_average_pool(x))


class Normed(nn.Module):
    """One that learns within a few steps, with batch norm."""

    @nn.compact
    def __call__(self, images, *, train: bool):
        x = images.reshape(len(images), -1)
        return Dense(10, name="head")(BatchNorm(name="norm")(x, train=train))


@functools.cache
def few_digits() -> convnets.data.Dataset:
    """120 digits to train on, 40 for validation, 50 for test."""
    whole = convnets.load_dataset("digits")
    train, validation = whole.train.select(np.arange(120)), whole.train.select(np.arange(120, 160))
    test = whole.test.select(np.arange(50))
    return dataclasses.replace(whole, train=train, validation=validation, test=test)


def fit(model=LINEAR, dataset=None, **options):
    """`convnets.fit`, small and silent, with a line about training at every step."""
    small = {
        "steps": None if "epochs" in options else 4,
        "batch_size": 24,
        "devices": 1,
        "augment": (),
        "log_every": 1,
        "evaluate_every": 4,
        "progress": False,
    }
    return convnets.fit(model, dataset or few_digits(), **(small | options))


@functools.cache
def plain_run() -> Result:
    """Four steps under `PLAIN`; what others are held against."""
    return fit(**PLAIN)


def column(result, name):
    """The values of one name in the lines of a history that have it."""
    return [line[name] for line in result.history if name in line]


def timeless(history):
    """Lines without what no two runs have in common."""
    times = ("seconds", "images_per_second", "data_wait")
    return [{name: line[name] for name in line if name not in times} for line in history]


def assert_same_bits(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)):
        assert np.array_equal(x, y)


def images_of(source, dtype=np.uint8):
    """All images of a source, as bytes or as floats in [0, 1]."""
    images = source.batch(np.arange(len(source)))["image"]
    return images if dtype == np.uint8 else (images / 255).astype(dtype)


def cross_entropy(probabilities, labels):
    return -np.log(probabilities[np.arange(len(labels)), labels].astype(np.float64))
