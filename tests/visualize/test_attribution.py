import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convnets import ops
from convnets.errors import UserError
from convnets.ops.image import Normalization
from convnets.visualize import (
    Unit,
    attribution,
    compute_endpoints,
    guided_backpropagation,
    heat,
    integrated_gradients,
    saliency,
    smooth_gradient,
)

from .networks import NORMALIZATION, classifier, identity, random_images, random_variables

MODEL, IMAGES = classifier(), random_images()
VARIABLES = random_variables(MODEL, IMAGES)
SCALED = Normalization(*NORMALIZATION)


def score(images, unit=0, normalization=SCALED):
    return compute_endpoints(MODEL, VARIABLES, images, normalization=normalization)["logits"][
        :, unit
    ]


def test_saliency_is_how_the_score_follows_a_pixel():
    found = saliency(MODEL, VARIABLES, IMAGES, Unit(1), normalization=SCALED)
    for place in ((0, 4, 5, 1), (1, 7, 2, 0)):
        changed = {sign: IMAGES.copy() for sign in (-1, 1)}
        for sign in changed:
            changed[sign][place] += sign * 1e-3
        slope = (score(changed[1], 1) - score(changed[-1], 1))[place[0]] / 2e-3
        np.testing.assert_allclose(found[place], slope, rtol=2e-3, atol=1e-4)
    bytes_ = (IMAGES * 255).astype(np.uint8)
    np.testing.assert_allclose(
        saliency(MODEL, VARIABLES, bytes_, Unit(1), normalization=SCALED),
        saliency(MODEL, VARIABLES, bytes_ / np.float32(255), Unit(1), normalization=SCALED),
        atol=1e-6,
    )
    assert heat(found).shape == (2, 11, 11)


def test_guided_backpropagation_is_the_one_by_hand():
    """Through every layer of the small network, back from the mean over pixels of `conv2`."""
    params = VARIABLES["params"]["backbone"]
    x = jnp.asarray(IMAGES)

    def convolve1(x):
        return ops.convolve(x, params["conv1"]["kernel"], padding=1) + bias(params["conv1"])

    def convolve2(x):
        return ops.convolve(x, params["conv2"]["kernel"], stride=2) + bias(params["conv2"])

    before1, back1 = jax.vjp(convolve1, x)
    pooled, unpool = jax.vjp(lambda y: ops.max_pool(y, 3, 2), jnp.maximum(before1, 0))
    before2, back2 = jax.vjp(convolve2, pooled)
    top = jnp.zeros_like(before2).at[..., 4].set(1 / before2[0, ..., 0].size)
    (down,) = back2(jnp.where(before2 > 0, top, 0))
    (down,) = unpool(down)
    (expected,) = back1(jnp.where((before1 > 0) & (down > 0), down, 0))
    found = guided_backpropagation(MODEL, VARIABLES, IMAGES, Unit(4, "conv2", "mean"))
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(found, expected, atol=1e-6)
    plain = saliency(MODEL, VARIABLES, IMAGES, Unit(4, "conv2", "mean"))
    assert np.abs(found - plain).max() > 0.1 * np.abs(plain).max()


def bias(layer):
    return layer["bias"].reshape(1, 1, 1, -1)


def test_smooth_gradient_is_a_mean_over_noise():
    plain = saliency(MODEL, VARIABLES, IMAGES, normalization=SCALED)
    without = smooth_gradient(MODEL, VARIABLES, IMAGES, samples=2, noise=0, normalization=SCALED)
    np.testing.assert_allclose(without, plain, atol=1e-6)
    unit = Unit(2)
    key = jax.random.split(jax.random.key(5), 3)
    spread = 0.3 * np.ptp(IMAGES, (1, 2, 3), keepdims=True)
    places = [[jax.random.fold_in(k, place) for place in range(len(IMAGES))] for k in key]
    noise = [[jax.random.normal(own, IMAGES.shape[1:]) for own in each] for each in places]
    copies = [IMAGES + spread * np.array(each) for each in noise]
    expected = sum(saliency(MODEL, VARIABLES, x, unit, normalization=SCALED) for x in copies) / 3
    found = smooth_gradient(
        MODEL, VARIABLES, IMAGES, unit, samples=3, noise=0.3, seed=5, normalization=SCALED
    )
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.abs(found - plain).max() > 0
    alone = smooth_gradient(
        MODEL, VARIABLES, IMAGES[:1], unit, samples=3, noise=0.3, seed=5, normalization=SCALED
    )
    np.testing.assert_allclose(found[:1], alone, atol=1e-6)


@pytest.mark.parametrize("unit", [Unit(), Unit([0, 2]), Unit(1, "conv2")], ids=str)
def test_integrated_gradients_sum_to_the_difference_of_the_scores(unit):
    found = integrated_gradients(MODEL, VARIABLES, IMAGES, unit, normalization=SCALED)
    sums = np.asarray(found.attributions).sum((1, 2, 3))
    if unit.endpoint is None:
        channel = np.argmax([score(IMAGES, k) for k in range(3)], 0)
        channel = channel if unit.channel is None else np.array(unit.channel)
        difference = [score(IMAGES, k)[i] - score(0 * IMAGES, k)[i] for i, k in enumerate(channel)]
        np.testing.assert_allclose(found.difference, difference, rtol=1e-4, atol=1e-5)
    assert np.all(np.abs(sums - found.difference) <= 0.01 * np.abs(found.difference))
    np.testing.assert_allclose(found.gap, np.abs(sums / found.difference - 1), atol=1e-4)
    # Not so of the gradient times the image, which a network with biases makes another sum of.
    gradient = saliency(MODEL, VARIABLES, IMAGES, unit, normalization=SCALED)
    plain = (gradient * IMAGES).sum((1, 2, 3))
    assert np.any(np.abs(plain - found.difference) > 0.02 * np.abs(found.difference))


def test_integrated_gradients_tell_where_they_end_too_early(monkeypatch):
    """16 steps have 17 ends, 32 steps 33: what the steps before computed is not computed anew."""
    taken, unit_gradient = [], attribution.unit_gradient

    def counted(*arguments):
        taken.append(1)
        return unit_gradient(*arguments)

    monkeypatch.setattr(attribution, "unit_gradient", counted)
    for most, ends in ((16, 17), (40, 33)):
        taken.clear()
        found = integrated_gradients(
            MODEL, VARIABLES, IMAGES, Unit(1), tolerance=1e-9, most=most, normalization=SCALED
        )
        assert len(taken) == ends
        assert found.gap.max() > 1e-9


def test_what_cannot_be_is_refused():
    linear = classifier(identity)
    with pytest.raises(UserError, match="no ReLU"):
        guided_backpropagation(linear, VARIABLES, IMAGES)
    with pytest.raises(UserError, match="at least 1 sample"):
        smooth_gradient(MODEL, VARIABLES, IMAGES, samples=0)
    with pytest.raises(UserError, match="tolerance above 0"):
        integrated_gradients(MODEL, VARIABLES, IMAGES, tolerance=0)
