"""Five broken set-ups that the doctor's checks were not made for, tried once all of them stood."""

import dataclasses

import flax.linen as nn
import jax
from broken_setups import OPTIONS, SmallNetwork, with_options

from convnets.data.sources import ArraySource


class DropoutAtTest(nn.Module):
    """Half of the hidden units are left out at test too, by a key that is always the same."""

    num_classes: int = 10

    @nn.compact
    def __call__(self, images, *, train: bool):
        x = SmallNetwork(num_classes=64, name="features")(images, train=train)
        key = self.make_rng("dropout") if self.has_rng("dropout") else jax.random.key(0)
        x = nn.relu(x) * jax.random.bernoulli(key, 0.5, x.shape) * 2
        return nn.Dense(self.num_classes, name="head")(x)


class Probabilities(nn.Module):
    """Ends in a softmax, and the cross entropy takes that for logits."""

    @nn.compact
    def __call__(self, images, *, train: bool):
        return jax.nn.softmax(SmallNetwork(name="network")(images, train=train))


def with_test_labels_off_by_one(dataset):
    labels = (dataset.test.labels + 1) % dataset.num_classes
    test = ArraySource(dataset.test.images, labels)
    return SmallNetwork(), dataclasses.replace(dataset, test=test), OPTIONS


UNSEEN = {
    "test labels off by one": with_test_labels_off_by_one,
    "flips that make other digits": with_options(augment=("flip", "flip_vertical")),
    "dropout at test": lambda dataset: (DropoutAtTest(), dataset, OPTIONS),
    "weight decay 100 times too large": with_options(optimizer="adamw", weight_decay=20.0),
    "softmax before the cross entropy": lambda dataset: (Probabilities(), dataset, OPTIONS),
}
