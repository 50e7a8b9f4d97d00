"""Units as pictures, images as sums of them."""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest

from convnets.errors import UserError
from convnets.unsupervised import DenseAutoencoder
from convnets.visualize import (
    decode_units,
    plot_weighted_sum,
    strongest_images,
    strongest_units,
    weigh_features,
)

RNG = np.random.default_rng(0)


def test_a_second_layer_is_seen_through_the_first_decoder():
    """Of linear decoders that is the product of their matrices, biases or not."""
    images = jnp.asarray(RNG.normal(size=(4, 5, 5, 1)), jnp.float32)
    model = DenseAutoencoder((9, 3), activation=lambda x: x)
    params = model.init(jax.random.key(0), images, train=False)["params"]
    params = jax.tree.map(lambda x: x + 0.1, params)  # biases too

    def decode(code):
        for name in ("decoder2", "decoder1"):
            code = code @ params[name]["kernel"] + params[name]["bias"][None]
        return code.reshape(-1, 5, 5, 1)

    product = params["decoder2"]["kernel"] @ params["decoder1"]["kernel"]
    found = decode_units(decode, (3,))
    assert np.allclose(found, product.reshape(3, 5, 5, 1), atol=1e-5)
    assert np.allclose(decode_units(decode, (3,), [2]), found[2:], atol=1e-6)
    found_all = model.apply({"params": params}, images, train=False)
    start, code = decode(jnp.zeros((1, 3)))[0], found_all["code"][0]
    whole = weigh_features(code, found, count=3, start=start)
    assert np.allclose(whole.total, found_all["reconstruction"][0], atol=1e-4)


def test_units_of_maps_are_named_by_their_places():
    found = decode_units(lambda code: code.sum(3, keepdims=True), (4, 4, 2), [(1, 2, 0), (3, 3, 1)])
    assert [tuple(np.argwhere(x)[0]) for x in found] == [(1, 2, 0), (3, 3, 0)]
    for unit in ((4, 0, 0), (0, 0)):
        with pytest.raises(UserError, match="there is no unit"):
            decode_units(lambda code: code, (4, 4, 2), [unit])


def test_the_largest_terms_come_first_whatever_the_lengths_of_features():
    features = np.stack([np.full((2, 2, 1), x) for x in (1.0, 10.0, 1.0)])
    found = weigh_features([0.9, 0.2, -0.5], features, count=2)
    assert found.units.tolist() == [1, 0]
    assert str(found) == "0.2 f1 + 0.9 f0"
    assert np.allclose(found.total, 2.9)
    assert str(weigh_features([0.9, 0.2, -0.5], features)) == "0.2 f1 + 0.9 f0 - 0.5 f2"
    with pytest.raises(UserError, match=r"expected \[K\] and"):
        weigh_features([1.0], features)


def test_a_sum_is_drawn():
    terms = weigh_features(RNG.normal(size=4), RNG.normal(size=(4, 3, 3, 1)), count=3)
    figure = plot_weighted_sum(RNG.normal(size=(3, 3, 1)), terms)
    assert [axis.get_title() for axis in figure.axes][0::4] == ["image", "sum"]
    assert len(figure.axes) == 5
    plt.close(figure)


def test_the_strongest_are_found():
    responses = RNG.normal(size=(6, 2, 2, 3))
    flat = responses.reshape(6, 12)
    assert np.array_equal(strongest_units(responses)[:, 0], flat.argmax(1))
    assert np.array_equal(strongest_images(responses)[:, 0], flat.argmax(0))
    assert strongest_units(responses, 3).shape == (6, 3)
    assert strongest_images(responses, 2).shape == (12, 2)
