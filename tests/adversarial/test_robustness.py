"""Accuracy under attack: every example once, whatever the batches."""

from functools import partial

import jax
import numpy as np
import pytest

import convnets
from convnets.adversarial import as_function, fast_gradient_sign, random_signs, robust_accuracy
from convnets.errors import UserError

from ..small_runs import LINEAR, few_digits


@pytest.fixture(scope="module")
def victim():
    dataset = few_digits()
    images = np.zeros((1, *dataset.image_shape), np.float32)
    variables = LINEAR.init(jax.random.key(0), images, train=False)
    optimizer = convnets.create_optimizer("sgd", 0.1)
    state = convnets.TrainState.create(
        variables, optimizer, jax.random.key(0), normalization=dataset.normalization
    )
    return as_function(LINEAR, state.variables(), normalization=state.normalization), dataset


@pytest.mark.parametrize("attack", [fast_gradient_sign, random_signs])
def test_every_example_counts_once_whatever_the_batch(victim, attack):
    classify, dataset = victim
    attack = partial(attack, epsilon=0.1)
    whole = robust_accuracy(classify, attack, dataset.test, batch_size=50)
    parts = robust_accuracy(classify, attack, dataset.test, batch_size=16)
    assert whole["examples"] == parts["examples"] == 50
    assert whole["accuracy"] == parts["accuracy"]
    assert whole["robust_accuracy"] == parts["robust_accuracy"]
    assert whole["l2_norm"] == pytest.approx(parts["l2_norm"], rel=1e-5)
    right = np.asarray(classify(dataset.test.images)).argmax(1) == dataset.test.labels
    assert whole["accuracy"] == right.mean()


def test_a_state_is_not_taken_for_variables():
    with pytest.raises(UserError, match=r"as state.variables\(\), not TrainState"):
        as_function(LINEAR, convnets.TrainState(*[None] * 7))


def test_the_normalization_is_inside(victim):
    classify, dataset = victim
    images = dataset.test.images[:4]
    np.testing.assert_allclose(classify(images), classify(images / np.float32(255)), atol=1e-4)
    nothing = robust_accuracy(classify, partial(fast_gradient_sign, epsilon=0.0), dataset.test)
    assert nothing["robust_accuracy"] == nothing["accuracy"]
    assert nothing["l2_norm"] == pytest.approx(0, abs=1e-6)
