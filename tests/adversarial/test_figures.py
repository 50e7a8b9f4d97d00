"""The figure of attacked images: what stands where."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from convnets.adversarial import plot_attacks
from convnets.errors import UserError

from .victims import IMAGES, labels_of, linear


def test_a_row_for_each_attack_and_one_for_its_changes():
    attacked = np.clip(IMAGES[:2] + np.float32(0.1), 0, 1)
    names = ["a", "b", "c"]
    figure = plot_attacks(linear, IMAGES[:2], {"up": attacked}, class_names=names, changes=True)
    axes = np.reshape(figure.axes, (3, 2))
    assert [row[0].get_ylabel() for row in axes] == ["images", "up", "change"]
    for column in range(2):
        np.testing.assert_allclose(
            axes[1, column].images[0].get_array(), attacked[column].squeeze(), atol=1e-6
        )
        title = axes[1, column].get_title()
        assert title.startswith(names[labels_of(linear, attacked)[column]] + " (")
        length = np.linalg.norm(attacked[column] - IMAGES[column])
        assert axes[2, column].get_title() == f"l2 {length:.2f}"
    plt.close(figure)
    with pytest.raises(UserError, match="is not of the images"):
        plot_attacks(linear, IMAGES[:2], {"up": attacked[:1]})
