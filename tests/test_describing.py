"""Descriptions: equal for what is equal, different for what is not, without addresses."""

from functools import partial

import pytest

import convnets
from convnets.describing import describe
from convnets.layers import glorot_uniform, he_normal, sigmoid
from convnets.ops import Normalization
from convnets.unsupervised import DenseAutoencoder, reconstruction_loss


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (partial(reconstruction_loss, sparsity=0.5), "reconstruction_loss(sparsity=0.5)"),
        (partial(reconstruction_loss, 3, error="x"), "reconstruction_loss(3, error='x')"),
        (Normalization(), "Normalization(mean=(0.0), std=(1.0))"),
        ({"b": [1, "two"], "a": None}, "{a=None, b=(1, 'two')}"),
        (convnets.fit, "fit"),
    ],
)
def test_words(x, words):
    assert describe(x) == words


def test_modules_are_told_apart_by_every_field():
    words = describe(DenseAutoencoder((5,)))
    assert words == describe(DenseAutoencoder((5,), activation=sigmoid))
    assert "features=(5)" in words
    assert " at 0x" not in words
    others = [DenseAutoencoder((6,)), DenseAutoencoder((5,), tied=True)]
    for other in [*others, DenseAutoencoder((5,), kernel_init=he_normal())]:
        assert describe(other) != words


def test_inner_functions_are_told_apart_by_what_they_keep():
    assert describe(he_normal()) != describe(glorot_uniform())
    assert describe(he_normal()) == describe(he_normal())
