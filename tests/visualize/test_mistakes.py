import matplotlib.pyplot as plt
import numpy as np
import pytest

from convnets.data.sources import ArraySource
from convnets.errors import UserError
from convnets.visualize import (
    confident_mistakes,
    count_confusions,
    plot_confusions,
    plot_mistakes,
)

RNG = np.random.default_rng(0)
PROBABILITIES = RNG.dirichlet(np.ones(4), 30)
LABELS = RNG.integers(0, 4, 30)


def test_the_most_confident_come_first():
    found = confident_mistakes(PROBABILITIES, LABELS)
    guesses = PROBABILITIES.argmax(1)
    wrong = [i for i in range(30) if guesses[i] != LABELS[i]]
    assert found.examples.tolist() == sorted(wrong, key=lambda i: -PROBABILITIES[i].max())
    np.testing.assert_array_equal(found.labels, LABELS[found.examples])
    np.testing.assert_array_equal(found.predictions, guesses[found.examples])
    np.testing.assert_array_equal(found.probabilities, PROBABILITIES.max(1)[found.examples])
    few = confident_mistakes(PROBABILITIES, LABELS, count=3)
    assert few.examples.tolist() == found.examples[:3].tolist()


def test_confusions_are_counted():
    expected = np.zeros((4, 4), int)
    for label, guess in zip(LABELS, PROBABILITIES.argmax(1)):
        expected[label, guess] += 1
    found = count_confusions(PROBABILITIES, LABELS)
    np.testing.assert_array_equal(found, expected)
    figure = plot_confusions(found, class_names=["cat", "dog", "ship", "frog"])
    axes = figure.axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("taken for", "class")
    shown = {text.get_position()[::-1]: int(text.get_text()) for text in axes.texts}
    assert shown == {(row, column): expected[row, column] for row, column in np.argwhere(expected)}
    shares = expected / expected.sum(1, keepdims=True)
    np.testing.assert_allclose(axes.images[0].get_array(), shares)
    plt.close(figure)


def test_mistakes_are_shown_with_what_they_are():
    images = RNG.integers(0, 256, (30, 5, 5, 3), np.uint8)
    found = confident_mistakes(PROBABILITIES, LABELS, count=4)
    figure = plot_mistakes(ArraySource(images, LABELS), found, columns=3)
    assert len(figure.axes) == 6
    for number, axes in enumerate(figure.axes[:4]):
        label, guess = found.labels[number], found.predictions[number]
        assert axes.get_title().startswith(f"{label}, taken for\n{guess} (")
        shown = axes.images[0].get_array()
        np.testing.assert_allclose(shown, images[found.examples[number]] / 255, rtol=1e-5)
    plt.close(figure)
    none = confident_mistakes(np.eye(4), np.arange(4))
    with pytest.raises(UserError, match="no mistakes"):
        plot_mistakes(ArraySource(images, LABELS), none)


def test_what_does_not_fit_is_refused():
    with pytest.raises(UserError, match=r"probabilities \[N, K\] and labels \[N\]"):
        confident_mistakes(PROBABILITIES, LABELS[:3])
