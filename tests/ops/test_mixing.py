"""Mixup and CutMix: what is mixed, with whom, and in which shares."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from convnets import UserError, ops


@pytest.fixture
def keys():
    return jax.random.split(jax.random.key(0), 500)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_mixup_draws_its_share_from_beta(alpha, keys):
    image, partner = np.random.default_rng(0).uniform(size=(2, 3, 4, 2)).astype(np.float32)
    run = jax.jit(jax.vmap(partial(ops.image.mixup, alpha=alpha), (0, None, None)))
    mixed, shares = run(keys, image, partner)
    own = np.asarray(shares).reshape(-1, 1, 1, 1)
    np.testing.assert_allclose(mixed, own * image + (1 - own) * partner, atol=1e-6)
    assert stats.kstest(np.asarray(shares), stats.beta(alpha, alpha).cdf).pvalue > 1e-3


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_cutmix_shows_a_rectangle_of_the_partner(alpha, keys):
    """Its sides are those of the formula, its center is any pixel, and it may be cut off."""
    height, width = 30, 40
    ones = np.ones((height, width, 1), np.float32)
    run = jax.jit(jax.vmap(partial(ops.image.cutmix, alpha=alpha), (0, None, None)))
    mixed, shares = run(keys, 1 * ones, 0 * ones)
    inside = np.asarray(mixed)[..., 0] == 0
    np.testing.assert_allclose(shares, 1 - inside.mean((1, 2)), atol=1e-6)
    sides, middles = [], []
    for each in inside:
        if not each.any():
            continue
        rows, columns = np.flatnonzero(each.any(1)), np.flatnonzero(each.any(0))
        y0, y1, x0, x1 = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
        assert each[y0:y1, x0:x1].all()
        if y0 > 0 and x0 > 0 and y1 < height and x1 < width:  # nothing is cut off
            sides.append((y1 - y0, x1 - x0))
            middles.append(((y0 + y1) / 2 / height, (x0 + x1) / 2 / width))
    sides = np.array(sides)
    assert len(sides) > 50
    np.testing.assert_array_less(abs(sides[:, 0] / height - sides[:, 1] / width), 1 / height + 1e-6)
    assert np.mean(middles, 0) == pytest.approx([0.5, 0.5], abs=0.08)
    assert inside.mean(0).min() > 0.05
    area = (1 - np.asarray(shares)).mean()  # a half, less what is cut off
    assert 0.25 < area < 0.45


def test_neighbors_are_partners():
    x = np.arange(12.0).reshape(6, 2)
    np.testing.assert_array_equal(ops.image.swap_neighbors(jnp.asarray(x)), x[np.arange(6) ^ 1])
    with pytest.raises(UserError, match="in pairs: 3 on one device is an odd number"):
        ops.image.swap_neighbors(jnp.zeros((3, 2)))


@pytest.mark.parametrize("mix", [ops.image.mixup, ops.image.cutmix])
def test_a_partner_of_another_shape_is_refused(mix, keys):
    with pytest.raises(UserError, match=r"one shape, came \(4, 4, 1\) and \(1, 4, 1\)"):
        mix(keys[0], jnp.ones((4, 4, 1)), jnp.ones((1, 4, 1)))
