"""Madaline Rule II: which flips are tried, what they change, and what is learned by them."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convnets.units import (
    disturb_least,
    initialize_madaline,
    run_madaline,
    train_madaline,
    truth_rows,
)


def decide(x):
    return np.where(x > 0, 1.0, -1.0)


def by_loops(params, x, targets, rate):
    """One example: singles, then pairs, in the order of their confidence."""
    params = {name: np.array(weights, np.float64) for name, weights in params.items()}
    x = np.append(x, 1)
    sums = x @ params["first"]
    h = decide(sums)

    def wrong(h):
        return decide(np.append(h, 1) @ params["second"]) != targets

    units = range(len(h))
    for size in (1, 2):
        for flipped in sorted(
            itertools.combinations(units, size), key=lambda chosen: np.abs(sums[list(chosen)]).sum()
        ):
            trial = h.copy()
            trial[list(flipped)] *= -1
            if wrong(trial).sum() < wrong(h).sum():
                h = trial
    first, second = params["first"], params["second"]
    for unit in units:
        if h[unit] != decide(sums[unit]):
            first[:, unit] += rate * (h[unit] - sums[unit]) * x / (x @ x)
    seen = np.append(h, 1)
    for unit in np.flatnonzero(wrong(h)):
        second[:, unit] += rate * (targets[unit] - seen @ second[:, unit]) * seen / (seen @ seen)
    return {"first": first, "second": second}


STEP = jax.jit(disturb_least)


def test_disturbs_as_the_loops_do():
    random, changed = np.random.default_rng(0), set()
    for seed in range(40):
        params = initialize_madaline(jax.random.key(seed), 3, 4, outputs=2)
        x, targets = (random.choice([-1.0, 1.0], size) for size in (3, 2))
        after = STEP(params, jnp.float32(x), jnp.float32(targets), rate=0.7)
        expected = by_loops(params, x, targets, 0.7)
        for name in params:
            np.testing.assert_allclose(after[name], expected[name], atol=1e-6)
        kinds = tuple(int((after[name] != params[name]).any(0).sum()) for name in params)
        changed.add(kinds)
        right = (run_madaline(params, jnp.float32(x))[1] == targets).all()
        assert (kinds == (0, 0)) == right
    assert {hidden for hidden, _ in changed} >= {0, 1, 2}
    assert {outputs for _, outputs in changed} >= {0, 1}


def test_a_flipped_unit_ends_at_its_decision():
    params = initialize_madaline(jax.random.key(3), 3, 4)
    rows = 2 * truth_rows(3) - 1
    for x in rows:
        h, output = run_madaline(params, x)
        after = STEP(params, x, -output)
        assert run_madaline(after, x)[1] == -output
        sums = jnp.append(x, 1) @ after["first"]
        flipped = decide(sums) != h
        np.testing.assert_allclose(np.abs(sums[flipped]), 1, rtol=1e-5)


def test_learns_parity_from_most_first_weights():
    x = 2 * truth_rows(3) - 1
    targets = jnp.prod(x, 1, keepdims=True)

    def train(key):
        first, second = jax.random.split(key)
        params = initialize_madaline(first, inputs=3, hidden=4)
        params, errors = train_madaline(params, x, targets, second, epochs=50)
        return (run_madaline(params, x)[1] != targets).sum(), errors

    wrong, errors = jax.jit(jax.vmap(train))(jax.random.split(jax.random.key(7), 30))
    np.testing.assert_array_equal(wrong, errors[:, -1])
    assert np.mean(wrong == 0) > 0.5
    assert (errors[:, 0] > 0).any()


def test_targets_of_another_shape_are_refused():
    params = initialize_madaline(jax.random.key(0), inputs=2, hidden=2)
    with pytest.raises(ValueError, match=r"expected targets .* = \(4, 1\), came \(4,\)"):
        train_madaline(params, jnp.ones((4, 2)), jnp.ones(4), jax.random.key(1), epochs=1)
