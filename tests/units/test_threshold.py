"""Threshold units against truth tables, and the random ones of the associative area."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convnets import units


def outputs(unit, rows):
    return units.threshold_units(jnp.asarray(rows), *unit)[:, 0].astype(bool).tolist()


@pytest.mark.parametrize("inputs", [1, 2, 3, 5])
def test_rows_and_gates(inputs):
    rows = units.truth_rows(inputs)
    expected = list(itertools.product([0, 1], repeat=inputs))
    assert rows.astype(int).tolist() == [list(row) for row in expected]
    assert outputs(units.all_of(inputs), rows) == [all(row) for row in expected]
    assert outputs(units.any_of(inputs), rows) == [any(row) for row in expected]


def test_a_negative_weight_is_not():
    unit = jnp.array([[-1.0]]), jnp.array([-0.5])
    assert outputs(unit, units.truth_rows(1)) == [True, False]


def test_at_the_threshold_a_unit_is_silent():
    unit = jnp.ones((2, 1)), jnp.array([1.0])
    assert outputs(unit, units.truth_rows(2)) == [False, False, False, True]


def test_every_function_of_three_bits_and_some_of_six():
    every = np.arange(256)[:, None] >> np.arange(8) & 1
    for tables in (every, np.random.default_rng(0).integers(0, 2, (20, 64))):
        rows = units.truth_rows(int(np.log2(tables.shape[1])))
        layers = jax.vmap(units.disjunctive_layers)(tables)
        found = jax.vmap(lambda layers, x=rows: units.run_threshold_layers(layers, x))(layers)
        np.testing.assert_array_equal(found[:, :, 0], tables)


def test_one_unit_of_the_first_layer_fires_for_one_row():
    first, _ = units.disjunctive_layers(jnp.zeros(16))
    np.testing.assert_array_equal(units.threshold_units(units.truth_rows(4), *first), np.eye(16))


def test_association_units_are_drawn_one_by_one():
    draw = dict(excitatory=3, inhibitory=2)
    weights, thresholds = units.association_units(jax.random.key(0), 12, 200, **draw)
    assert thresholds.tolist() == [0] * 200
    assert ((weights == 1).sum(0) == 3).all()
    assert ((weights == -1).sum(0) == 2).all()
    assert len(np.unique(np.asarray(weights), axis=1).T) > 190  # they differ
    assert (np.abs(weights).sum(1) > 50).all()  # no input is left out: 83 connections expected
    again, _ = units.association_units(jax.random.key(0), 12, 200, **draw)
    np.testing.assert_array_equal(weights, again)


def test_what_does_not_fit_is_refused():
    with pytest.raises(TypeError, match="expected floats"):
        units.threshold_units(jnp.ones((1, 2), int), *units.all_of(2))
    with pytest.raises(ValueError, match="came \\(1, 3\\), \\(2, 1\\) and \\(1,\\)"):
        units.threshold_units(jnp.ones((1, 3)), *units.all_of(2))
    with pytest.raises(ValueError, match="2\\^N rows, came \\(6,\\)"):
        units.disjunctive_layers(jnp.ones(6))
    with pytest.raises(ValueError, match="3 \\+ 2 connections to 4 inputs"):
        units.association_units(jax.random.key(0), 4, 1, excitatory=3, inhibitory=2)
