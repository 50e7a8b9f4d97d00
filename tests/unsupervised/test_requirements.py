"""What learners refuse of each other, in one sentence; and what they compute in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convnets.errors import UserError
from convnets.layers import Conv
from convnets.ops import collective
from convnets.unsupervised import (
    RBM,
    ConvAutoencoder,
    ConvolutionalPredictiveCoder,
    DeconvolutionalNetwork,
    DenseAutoencoder,
    KMeans,
    ReconstructionICA,
    amari_distance,
    clustering_loss,
    contrastive_divergence_loss,
    deconvolution_loss,
    fill_layer,
    infer_codes,
    sparse_coding_loss,
)

IMAGES = jnp.asarray(np.random.default_rng(0).random((3, 8, 8, 1)), jnp.float32)
KEY = jax.random.key(0)


def create(model):
    return model.init(KEY, IMAGES, train=False)


@pytest.mark.parametrize("kind", [DenseAutoencoder, ConvAutoencoder, DeconvolutionalNetwork])
@pytest.mark.parametrize("features", [5, (), (0,), (2.5,)])
def test_widths_are_those_of_layers(kind, features):
    with pytest.raises(UserError, match="features are the widths of the layers"):
        create(kind(features))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: contrastive_divergence_loss(KMeans(3)), "for Boltzmann machines, not for KMeans"),
        (lambda: contrastive_divergence_loss(RBM(3), steps=1.5), "1 step of Gibbs sampling"),
        (lambda: sparse_coding_loss(RBM(3), 0.1), "for predictive coders, not for RBM"),
        (lambda: deconvolution_loss(DeconvolutionalNetwork((2,)), 1.5), "layers 1 to 1, not 1.5"),
        (lambda: create(DeconvolutionalNetwork((2,), penalty=-1.0)), "penalty must not be"),
        (lambda: create(ReconstructionICA(Conv(2, 3))), "use_bias=False"),
        (lambda: amari_distance(jnp.eye(1), jnp.eye(1)), "two or more"),
        (
            lambda: fill_layer({"c": {"kernel": jnp.ones((3, 3, 4, 2))}}, "c",
                               {"kernel": jnp.ones((2, 2, 9, 2))}),
            "what was learned is",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()


@pytest.mark.parametrize(
    ("model", "loss"),
    [(KMeans(3), clustering_loss), (RBM(4, chains=2), contrastive_divergence_loss)],
)
def test_what_has_no_mean_takes_no_local_steps(model, loss):
    variables = create(model)
    params, batch_stats = variables.get("params", {}), variables["batch_stats"]
    with collective.each_alone(), pytest.raises(UserError, match="leave out average_every"):
        loss(model)(params, batch_stats, {"image": IMAGES}, KEY)


def test_codes_of_features_that_are_all_zero_are_zero():
    assert not infer_codes(jnp.ones((2, 3)), jnp.zeros((4, 3)), 0.1).any()


@pytest.mark.parametrize(
    ("model", "loss"),
    [
        (DeconvolutionalNetwork((2,), kernel_size=3), lambda model: deconvolution_loss(model, 1)),
        (ConvolutionalPredictiveCoder(2, 3), lambda model: sparse_coding_loss(model, 0.1)),
        (KMeans(2), clustering_loss),
    ],
)
def test_with_float64_switched_on_types_stay(model, loss):
    with jax.enable_x64(True):
        variables = create(model)
        params, batch_stats = variables.get("params", {}), variables.get("batch_stats", {})
        value, (after, _) = loss(model)(params, batch_stats, {"image": IMAGES}, KEY)
        assert np.isfinite(value)
        types = [[x.dtype for x in jax.tree.leaves(tree)] for tree in (after, batch_stats)]
        assert types[0] == types[1]
