"""Rosenblatt's rule by loops, as descent on its loss, and its bound by the largest margin."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.svm import SVC

from convnets import losses
from convnets.units import mistake_bound, train_perceptron


def examples(seed, count=40, size=6, gap=0.3):
    """Random examples whose margin to a random direction is at least `gap`."""
    random = np.random.default_rng(seed)
    direction = random.normal(size=size)
    direction /= np.linalg.norm(direction)
    x = random.normal(size=(count, size))
    y = np.where(x @ direction > 0, 1, -1)
    return (x + gap * y[:, None] * direction).astype(np.float32), y


def by_loops(x, y, epochs):
    weights, mistakes = np.zeros(x.shape[1], np.float32), np.zeros(epochs, int)
    for epoch in range(epochs):
        for example, label in zip(x, y):
            if label * (weights @ example) <= 0:
                weights = weights + label * example
                mistakes[epoch] += 1
        if not mistakes[epoch]:
            break
    return weights, mistakes


@pytest.mark.parametrize("seed", range(3))
def test_equals_the_rule_by_loops(seed):
    x, y = examples(seed)
    weights, mistakes = train_perceptron(x, y, epochs=30)
    expected, counted = by_loops(x, y, 30)
    assert mistakes.tolist() == counted.tolist()
    assert mistakes[-1] == 0 < mistakes[0]
    np.testing.assert_allclose(weights, expected, atol=1e-5)


def test_is_descent_at_rate_one_on_the_loss():
    x, y = examples(3)
    optimizer, weights = optax.sgd(1.0), jnp.zeros(x.shape[1])
    state = optimizer.init(weights)
    gradient = jax.jit(jax.grad(lambda w, x, y: losses.perceptron_loss(x @ w, y)))
    for example, label in zip(x, y):
        updates, state = optimizer.update(gradient(weights, example, label), state)
        weights = optax.apply_updates(weights, updates)
    np.testing.assert_allclose(train_perceptron(x, y, epochs=1)[0], weights, atol=1e-6)


def test_makes_no_more_mistakes_than_its_bound():
    for seed, gap in ((0, 0.02), (1, 0.1), (2, 0.5), (3, 2.0)):
        x, y = examples(seed, gap=gap)
        mirrored = np.concatenate([y[:, None] * x, -y[:, None] * x])
        svm = SVC(kernel="linear", C=1e8).fit(mirrored, np.repeat([1, -1], len(y)))
        bound = float(mistake_bound(x, y, jnp.asarray(svm.coef_[0], x.dtype)))
        margin = 1 / np.linalg.norm(svm.coef_[0])  # the support vectors are at y w . x = 1
        assert bound == pytest.approx((np.linalg.norm(x, axis=1).max() / margin) ** 2, rel=1e-3)
        weights, mistakes = train_perceptron(x, y, epochs=1000)
        assert mistakes[-1] == 0
        assert 0 < mistakes.sum() <= bound <= mistake_bound(x, y, weights) * (1 + 1e-5)


def test_the_bound_is_reached():
    x, y = np.eye(50, dtype=np.float32), np.random.default_rng(0).choice([-1, 1], 50)
    weights, mistakes = train_perceptron(x, y, epochs=3)
    assert mistakes.tolist() == [50, 0, 0]
    assert mistake_bound(x, y, weights) == 50


def test_what_no_line_separates():
    x, y = np.float32([[1, 0, 0], [1, 0, 1], [1, 1, 0], [1, 1, 1]]), np.array([-1, 1, 1, -1])
    weights, mistakes = train_perceptron(x, y, epochs=50)
    assert (mistakes > 0).all()
    assert mistake_bound(x, y, weights) == np.inf


def test_goes_on_from_weights_and_refuses_what_does_not_fit():
    x, y = examples(0)
    whole, mistakes = train_perceptron(x, y, epochs=2)
    half, first = train_perceptron(x, y, epochs=1)
    rest, second = train_perceptron(x, y, epochs=1, weights=half)
    np.testing.assert_array_equal(whole, rest)
    assert mistakes.tolist() == [*first.tolist(), *second.tolist()]
    with pytest.raises(ValueError, match="came \\(40, 6\\) and \\(39,\\)"):
        train_perceptron(x, y[1:], epochs=1)
