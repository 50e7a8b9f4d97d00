"""Probabilistic max pooling against the sum over a block's states, and its samples."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convnets.errors import UserError
from convnets.ops import probabilistic_max_pool, sample_probabilistic_max_pool


def test_probabilities_are_those_of_the_states_of_a_block():
    energies = np.random.default_rng(0).normal(size=(2, 4, 6, 3)) * 2
    units, pools = probabilistic_max_pool(jnp.asarray(energies, jnp.float32), 2)
    for n, i, j, c in itertools.product(range(2), range(2), range(3), range(3)):
        block = slice(2 * i, 2 * i + 2), slice(2 * j, 2 * j + 2)
        weights = np.exp(energies[n, *block, c])
        np.testing.assert_allclose(units[n, *block, c], weights / (1 + weights.sum()), rtol=1e-5)
        np.testing.assert_allclose(
            pools[n, i, j, c], weights.sum() / (1 + weights.sum()), rtol=1e-5
        )


def test_blocks_of_one_are_logistic_units():
    energies = jnp.linspace(-3, 3, 16).reshape(1, 4, 4, 1)
    units, pools = probabilistic_max_pool(energies, 1)
    np.testing.assert_allclose(units, jax.nn.sigmoid(energies), rtol=1e-5)
    np.testing.assert_allclose(pools, units, rtol=1e-5)


def test_samples_have_one_unit_a_block_and_these_frequencies():
    energies = jnp.asarray(np.random.default_rng(1).normal(size=(1, 2, 4, 2)), jnp.float32)
    many = jnp.broadcast_to(energies, (20000, *energies.shape[1:]))
    units, pools = sample_probabilistic_max_pool(jax.random.key(0), many, 2)
    assert set(np.unique(units)) == {0, 1}
    blocks = units.reshape(20000, 1, 2, 2, 2, 2).sum((2, 4))
    np.testing.assert_array_equal(blocks, pools)
    expected = probabilistic_max_pool(energies, 2)
    deviation = 4 * 0.5 / np.sqrt(20000)
    np.testing.assert_allclose(units.mean(0), expected[0][0], atol=deviation)
    np.testing.assert_allclose(pools.mean(0), expected[1][0], atol=deviation)


def test_large_energies_do_not_overflow():
    units, pools = probabilistic_max_pool(jnp.full((1, 2, 2, 1), 1e4), 2)
    np.testing.assert_allclose(units, 0.25)
    assert pools.item() == 1


def test_blocks_that_do_not_divide_are_refused():
    with pytest.raises(UserError, match="2x2 do not divide 3x4"):
        probabilistic_max_pool(jnp.ones((1, 3, 4, 1)), 2)
