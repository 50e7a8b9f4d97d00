"""The cells of the Neocognitron against loops, and the sizes of the paper."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convnets.errors import UserError
from convnets.models import Neocognitron
from convnets.models.neocognitron import complex_cells, inhibition, mask, simple_cells

RNG = np.random.default_rng(0)
U = RNG.uniform(size=(2, 6, 7, 3))
A = RNG.uniform(size=(3, 3, 3, 4))
B = RNG.uniform(0, 2, size=4)


def mask_by_loops(side):
    weights = np.empty((side, side))
    for i, j in np.ndindex(side, side):
        middle = (side - 1) / 2
        weights[i, j] = 0.9 ** np.hypot(i - middle, j - middle)
    return weights / weights.sum()


def v_cell(patch):
    """Equation 3: the mask is shared by the planes, and its sum over them is 1."""
    c = mask_by_loops(patch.shape[0]) / patch.shape[2]
    return np.sqrt(sum(c[i, j] * patch[i, j, k] ** 2 for i, j, k in np.ndindex(patch.shape)))


def s_cell(patch, a, b, r):
    """Equation 1."""
    e = sum(a[place] * patch[place] for place in np.ndindex(patch.shape))
    return r * max((1 + e) / (1 + 2 * r / (1 + r) * b * v_cell(patch)) - 1, 0)


@pytest.mark.parametrize("r", [0.5, 4.0])
def test_s_cells_are_equation_1(r):
    padded = np.pad(U, ((0, 0), (1, 1), (1, 1), (0, 0)))
    with jax.enable_x64(True):
        s = simple_cells(jnp.asarray(U), A, B, selectivity=r, padding=1)
        v = inhibition(jnp.asarray(U), 3, 1)
    assert s.shape == (2, 6, 7, 4)
    for n, i, j in np.ndindex(2, 6, 7):
        patch = padded[n, i : i + 3, j : j + 3]
        assert v[n, i, j, 0] == pytest.approx(v_cell(patch), rel=1e-9)
        for k in range(4):
            assert s[n, i, j, k] == pytest.approx(s_cell(patch, A[..., k], B[k], r), rel=1e-9)


def test_an_s_cell_answers_above_its_cosine_only():
    """With large weights it answers where the cosine with the feature exceeds r / (1 + r)."""
    feature, other = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    for r in (1.0, 4.0):
        for cosine in (r / (1 + r) - 0.02, r / (1 + r) + 0.02, 1.0):
            u = cosine * feature + np.sqrt(1 - cosine**2) * other
            q, c = 1e4, 0.5
            a = q * c * feature.reshape(1, 1, 2, 1)
            b = np.array([q / 2 * np.sqrt(c)])
            x = jnp.asarray(u.reshape(1, 1, 1, 2), jnp.float32)
            s = simple_cells(x, jnp.float32(a), jnp.float32(b), selectivity=r).item()
            assert (s > 0) == (cosine > r / (1 + r))
            if s > 0:
                assert s == pytest.approx((1 + r) * cosine - r, abs=0.01)


def test_c_cells_are_equation_4():
    s = RNG.uniform(size=(2, 5, 6, 3)) * (RNG.uniform(size=(2, 5, 6, 3)) > 0.5)
    with jax.enable_x64(True):
        c = complex_cells(jnp.asarray(s), 3)
    d = mask_by_loops(3)
    assert c.shape == (2, 3, 4, 3)
    for n, i, j in np.ndindex(2, 3, 4):
        patch = s[n, i : i + 3, j : j + 3]
        sums = [sum(d[p] * patch[(*p, k)] for p in np.ndindex(3, 3)) for k in range(3)]
        for k in range(3):
            x = max((1 + sums[k]) / (1 + np.mean(sums)) - 1, 0)
            assert c[n, i, j, k] == pytest.approx(x / (0.5 + x), abs=1e-9)


def test_masks_fall_outward_and_sum_to_one():
    for side in (1, 2, 5):
        np.testing.assert_allclose(mask(side), mask_by_loops(side))
        assert mask(side).sum() == pytest.approx(1)
    with pytest.raises(UserError, match="came 0"):
        mask(0)


def test_map_sizes_of_the_simulation_of_1980():
    images = jax.ShapeDtypeStruct((1, 16, 16, 1), jnp.float32)
    endpoints, variables = jax.eval_shape(
        lambda x: Neocognitron().init_with_output(jax.random.key(0), x, train=False), images
    )
    sizes = [16, 10, 8, 6, 2, 1]
    names = ("s1", "c1", "s2", "c2", "s3", "c3")
    assert [endpoints[name].shape for name in names] == [(1, n, n, 24) for n in sizes]
    assert variables["params"]["s2"]["a"].shape == (5, 5, 24, 24)


def test_it_starts_weak_and_without_inhibition():
    init = jax.jit(partial(Neocognitron().init, train=False))
    params = init(jax.random.key(0), jnp.ones((1, 16, 16, 1)))["params"]
    for layer in params.values():
        assert (layer["b"] == 0).all()
        assert (layer["a"] >= 0).all()
        assert 0 < layer["a"].max() < 1e-3


def test_a_shift_moves_the_first_layers_along():
    image = np.zeros((1, 20, 20, 1), np.float32)
    image[0, 6:12, 6:12, 0] = RNG.uniform(size=(6, 6))
    backbone = Neocognitron()
    params = {"s1": {"a": RNG.uniform(size=(5, 5, 1, 24)), "b": RNG.uniform(size=24)}}
    params = jax.tree.map(jnp.float32, params)
    first = backbone.clone(pairs=backbone.pairs[:1])
    run = jax.jit(lambda x: first.apply({"params": params}, x, train=False)["c1"])
    np.testing.assert_allclose(
        run(np.roll(image, (1, 2), (1, 2)))[:, 1:, 2:], run(image)[:, :-1, :-2], atol=1e-6
    )


def test_darkness_has_finite_gradients_and_what_is_below_zero_counts_as_dark():
    backbone = Neocognitron()
    x = jnp.zeros((1, 16, 16, 1))
    variables = jax.jit(partial(backbone.init, train=False))(jax.random.key(0), x)

    def score(params, x):
        return sum(map(jnp.sum, backbone.apply({"params": params}, x, train=False).values()))

    run = jax.jit(jax.value_and_grad(score, argnums=(0, 1)))
    dark, grads = run(variables["params"], x)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
    assert run(variables["params"], x - 1)[0] == dark == 0


def test_what_does_not_fit_is_refused():
    with pytest.raises(UserError, match="came 3x3"):
        Neocognitron().init(jax.random.key(0), jnp.ones((1, 13, 13, 1)), train=False)
    with pytest.raises(TypeError, match="uint8"):
        Neocognitron().init(jax.random.key(0), jnp.ones((1, 16, 16, 1), jnp.uint8), train=False)
