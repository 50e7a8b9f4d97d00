import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest

from convnets.errors import UserError
from convnets.visualize import plot_histograms, tree_histograms

TREE = {
    "backbone": {"conv1": {"kernel": jnp.linspace(-1, 1, 64).reshape(4, 16), "bias": jnp.zeros(3)}},
    "head": {"kernel": jnp.array([0.0, 0.5, 0.5, 2.0])},
}


def test_every_value_is_counted_once():
    found = tree_histograms(TREE, bins=4)
    assert found["backbone/conv1/kernel"].counts.tolist() == [16] * 4
    head = found["head/kernel"]
    assert head.counts.tolist() == [1, 2, 0, 1]
    np.testing.assert_allclose(head.edges, [0, 0.5, 1, 1.5, 2])
    assert (head.mean, head.zeros) == (0.75, 0.25)
    assert head.deviation == pytest.approx(np.std([0, 0.5, 0.5, 2]))
    assert found["backbone/conv1/bias"].counts.sum() == 3
    figure = plot_histograms(found, columns=2, title="weights")
    assert len(figure.axes) == 4
    assert {axes.get_title() for axes in figure.axes} == {
        "conv1/kernel", "conv1/bias", "head/kernel", "",
    }  # fmt: skip
    plt.close(figure)


def test_what_is_not_finite_is_refused():
    with pytest.raises(UserError, match="head has values that are not finite"):
        tree_histograms({"head": jnp.array([1.0, jnp.nan])})
    with pytest.raises(UserError, match="no histograms"):
        plot_histograms({})
