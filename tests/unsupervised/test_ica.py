"""Reconstruction ICA: its value, its transpose for every kind of filters, and mixed sources."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convnets.errors import UserError
from convnets.layers import Conv, LocallyConnected, TiledConv
from convnets.ops import sum_pool
from convnets.training import minimize_lbfgs
from convnets.unsupervised import (
    ReconstructionICA,
    amari_distance,
    fit_whitening,
    reconstruction_ica_loss,
)

KEY = jax.random.key(0)


def test_the_value_by_matrices():
    x = np.random.default_rng(0).normal(size=(5, 2, 2, 1)).astype(np.float32)
    filters = Conv(6, 2, padding=0, use_bias=False)
    model = ReconstructionICA(filters)
    params = model.init(KEY, x, train=False)["params"]
    w = np.asarray(params["filters"]["kernel"]).reshape(4, 6)
    flat = x.reshape(5, 4)
    responses = flat @ w
    expected = ((responses @ w.T - flat) ** 2).sum(1)
    expected += 0.3 * np.sqrt(0.01 + responses**2).sum(1)
    loss, _ = reconstruction_ica_loss(model, 0.3)(params, {}, {"image": jnp.asarray(x)}, None)
    np.testing.assert_allclose(loss, expected.mean(), rtol=1e-5)


@pytest.mark.parametrize(
    "filters",
    [
        TiledConv(3, 3, period=2, use_bias=False),
        LocallyConnected(3, 3, 2, use_bias=False),
        Conv(3, 3, 2, use_bias=False),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_the_transpose_is_that_of_the_filters(filters):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 6, 1)), jnp.float32)
    model = ReconstructionICA(filters)
    variables = model.init(KEY, x, train=False)
    matrix = jax.vmap(
        lambda one: filters.apply({"params": variables["params"]["filters"]}, one[None]).ravel()
    )(jnp.eye(36).reshape(36, 6, 6, 1))
    expected = x.reshape(2, 36) @ matrix @ matrix.T
    found = model.apply(variables, x, train=False)
    np.testing.assert_allclose(found["reconstruction"].reshape(2, 36), expected, atol=1e-4)
    np.testing.assert_allclose(found["code"].reshape(2, -1), x.reshape(2, 36) @ matrix, atol=1e-4)


def test_pooled_squares_are_under_one_root():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 6, 1)), jnp.float32)
    model = ReconstructionICA(TiledConv(3, 3, period=2, use_bias=False))
    params = model.init(KEY, x, train=False)["params"]
    pool = partial(sum_pool, window=2)
    with_pool, alone = (
        reconstruction_ica_loss(model, penalty, pool=pool)(params, {}, {"image": x}, None)[0]
        for penalty in (1.0, 0.0)
    )
    squares = np.square(model.apply({"params": params}, x, train=False)["code"])
    sums = squares.reshape(2, 2, 2, 2, 2, 3).sum((2, 4))
    np.testing.assert_allclose(with_pool - alone, np.sqrt(0.01 + sums).sum() / 2, rtol=1e-4)


def test_mixed_laplace_sources_are_found():
    rng = np.random.default_rng(0)
    sources, mixing = rng.laplace(size=(4000, 4)), rng.normal(size=(4, 4))
    mixed = sources @ mixing.T
    whitening = fit_whitening(mixed)
    x = jnp.asarray(whitening.apply(mixed).reshape(4000, 1, 1, 4), jnp.float32)
    model = ReconstructionICA(Conv(4, 1, use_bias=False))
    params = model.init(KEY, x, train=False)["params"]
    loss_fn = reconstruction_ica_loss(model, 0.2, epsilon=1e-3)
    best = minimize_lbfgs(lambda p: loss_fn(p, {}, {"image": x}, None)[0], params, steps=200)

    def distance(params):
        unmixing = np.asarray(params["filters"]["kernel"]).reshape(4, 4).T @ whitening.matrix.T
        return amari_distance(unmixing, mixing)

    assert distance(best.params) < 0.1
    assert distance(params) > 0.15


def test_the_distance_knows_order_and_scale_only():
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(3, 3))
    unmixing = np.linalg.inv(mixing)[[2, 0, 1]] * np.array([[2.0], [-1.0], [0.1]])
    assert amari_distance(unmixing, mixing) < 1e-5
    assert amari_distance(np.eye(3), np.ones((3, 3))) == pytest.approx(1)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(UserError, match="epsilon positive"):
        reconstruction_ica_loss(ReconstructionICA(Conv(4, 1, use_bias=False)), 1.0, epsilon=0.0)
