"""Gabor functions are found again, with and without noise; noise itself is not one."""

import numpy as np
import pytest

from convnets.errors import UserError
from convnets.visualize import GaborFit, evaluate_gabor, fit_gabor, plot_tuning, tuning_curve


def draw(rng):
    return GaborFit(
        amplitude=rng.uniform(0.5, 2),
        row=rng.uniform(4, 7),
        column=rng.uniform(4, 7),
        orientation=rng.uniform(0, np.pi),
        frequency=rng.uniform(0.1, 0.3),
        phase=rng.uniform(-3, 3),
        length=rng.uniform(1.5, 3),
        width=rng.uniform(1.5, 3),
    )


@pytest.mark.parametrize("seed", range(8))
def test_functions_are_found_again(seed):
    rng = np.random.default_rng(seed)
    true = draw(rng)
    kernel = evaluate_gabor(true, (12, 12))
    found = fit_gabor(kernel)
    assert found.explained > 0.999
    np.testing.assert_allclose(evaluate_gabor(found, (12, 12)), kernel, atol=0.02)
    turned = (found.orientation - true.orientation + np.pi / 2) % np.pi - np.pi / 2
    assert abs(turned) < 0.02
    noisy = kernel + 0.1 * kernel.std() * rng.normal(size=kernel.shape)
    assert fit_gabor(noisy).explained > 0.97


def test_noise_is_no_gabor_function():
    rng = np.random.default_rng(0)
    explained = [fit_gabor(rng.normal(size=(12, 12))).explained for _ in range(5)]
    assert max(explained) < 0.4


def test_the_function_at_a_pixel():
    gabor = GaborFit(2.0, 3.0, 2.0, np.pi / 2, 0.2, 0.5, 4.0, 1.5)
    # Across the bars is down the rows: u = 1, v = -(5 - 2).
    expected = 2 * np.exp(-0.5 * ((1 / 1.5) ** 2 + (3 / 4) ** 2)) * np.cos(0.4 * np.pi + 0.5)
    np.testing.assert_allclose(evaluate_gabor(gabor, (8, 8))[4, 5], expected)


def test_a_filter_is_tuned_to_its_own_orientation():
    gabor = GaborFit(1.0, 8, 8, 1.0, 0.2, 0.3, 3.0, 3.0)
    angles = np.linspace(0, np.pi, 60, endpoint=False)
    curve = tuning_curve(evaluate_gabor(gabor, (17, 17)), 0.2, angles)
    assert abs(angles[curve.argmax()] - 1.0) < 0.06
    assert curve.min() < 0.05 * curve.max()
    phases = np.linspace(0, 2 * np.pi, 400)
    rows, columns = np.indices((17, 17))
    along = np.cos(angles[7]) * columns + np.sin(angles[7]) * rows
    gratings = np.cos(2 * np.pi * 0.2 * along[None] + phases[:, None, None])
    responses = (gratings * evaluate_gabor(gabor, (17, 17))[None]).sum((1, 2))
    np.testing.assert_allclose(curve[7], responses.max(), rtol=1e-3)
    axes = plot_tuning(angles, curve, title="one").axes[0]
    np.testing.assert_allclose(axes.lines[0].get_data(), (np.degrees(angles), curve))
    assert axes.get_title() == "one"
    named = plot_tuning(angles, {"a": curve, "b": 2 * curve}).axes[0]
    assert [text.get_text() for text in named.get_legend().get_texts()] == ["a", "b"]


def test_what_is_no_filter_is_refused():
    with pytest.raises(UserError, match="at least 3x3"):
        fit_gabor(np.ones((2, 2)))
    with pytest.raises(UserError, match="constant"):
        fit_gabor(np.ones((5, 5, 3)))
