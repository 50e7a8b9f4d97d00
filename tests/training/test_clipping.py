"""Limits of the gradient against loops over values and units."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import convnets
from convnets.training import create_clipping

RNG = np.random.default_rng(0)
SHAPES = {
    "conv": {"kernel": (3, 2, 4, 5), "bias": (5,)},
    "pointwise": {"kernel": (1, 1, 1, 6)},
    "table": {"kernel": (2, 2, 3)},
    "local": {"kernel": (2, 3, 2, 2, 3, 2), "bias": (2, 3, 2)},
    "dense": {"kernel": (4, 3), "slope": ()},
    "head": {"kernel": (4, 3), "bias": (3,)},
}
IS_SHAPE = {"is_leaf": lambda x: isinstance(x, tuple)}
WEIGHTS = jax.tree.map(lambda shape: RNG.normal(size=shape), SHAPES, **IS_SHAPE)
WEIGHTS["dense"]["kernel"][:, 1] = 0.0
GRADS = jax.tree.map(lambda shape: 3 * RNG.normal(size=shape) ** 3, SHAPES, **IS_SHAPE)


def clip(grads, **limits):
    clipping = optax.chain(*create_clipping(**limits))
    params = jax.tree.map(jnp.float32, WEIGHTS)
    run = jax.jit(lambda grads: clipping.update(grads, clipping.init(params), params)[0])
    return run(jax.tree.map(np.float32, grads))


def units(name, shape):
    """The places of each unit's weights in an array."""
    if name != "kernel":
        return [(...,)]
    if len(shape) == 6:
        places = itertools.product(*(range(shape[axis]) for axis in (0, 1, 5)))
        return [(i, j, slice(None), slice(None), slice(None), o) for i, j, o in places]
    return [(..., o) for o in range(shape[-1])]


def test_each_unit_is_limited_beside_its_weights():
    limit = 2.0
    found, cut = clip(GRADS, adaptive=limit), 0
    for module, params in WEIGHTS.items():
        for name, w in params.items():
            expected = np.array(GRADS[module][name])
            for place in [] if module == "head" else units(name, w.shape):
                norm = np.sqrt(np.sum(expected[place] ** 2))
                most = limit * max(np.sqrt(np.sum(w[place] ** 2)), 1e-3)
                cut += norm > most
                expected[place] *= min(1.0, most / norm)
            np.testing.assert_allclose(found[module][name], expected, rtol=1e-5, err_msg=module)
    assert 8 < cut < 44  # of 44 units


def test_values_then_units_then_the_norm_are_limited():
    by_hand = jax.tree.map(lambda g: np.clip(g, -0.7, 0.7), GRADS)
    np.testing.assert_allclose(clip(GRADS, value=0.7)["head"]["bias"], by_hand["head"]["bias"])
    by_hand = clip(by_hand, adaptive=0.5)
    norm = np.sqrt(sum(np.sum(np.square(g)) for g in jax.tree.leaves(by_hand)))
    found = clip(GRADS, value=0.7, adaptive=0.5, norm=1.5)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(by_hand)):
        np.testing.assert_allclose(a, b * 1.5 / norm, rtol=1e-5)


@pytest.mark.parametrize("name", ["clip", "clip_value", "clip_adaptive"])
def test_limits_are_positive(name):
    for limit in (0.0, -1.0, float("nan")):
        with pytest.raises(convnets.UserError, match="must be positive"):
            convnets.create_optimizer("sgd", 0.1, **{name: limit})
