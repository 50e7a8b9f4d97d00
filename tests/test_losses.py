"""Losses against NumPy in float64, and the weighted mean across devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from jax.test_util import check_grads

from convnets import losses
from convnets.ops import collective

DEVICES = 4


def log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_cross_entropy_is_its_formula(label_smoothing):
    random = np.random.default_rng(0)
    logits, labels = random.normal(size=(6, 5)), random.integers(0, 5, 6)
    targets = (1 - label_smoothing) * np.eye(5)[labels] + label_smoothing / 5
    expected = -(targets * log_softmax(logits)).sum(-1)
    for given in (labels, labels.astype(np.uint8), np.eye(5)[labels]):
        loss = losses.softmax_cross_entropy(
            logits.astype(np.float32), given, label_smoothing=label_smoothing
        )
        assert loss.dtype == jnp.float32
        np.testing.assert_allclose(loss, expected, rtol=1e-6)
    mixed = random.dirichlet(np.ones(5), size=6)
    expected = -(((1 - label_smoothing) * mixed + label_smoothing / 5) * log_softmax(logits)).sum(
        -1
    )
    with jax.enable_x64(True):

        def loss_of(labels):
            return jax.jit(
                lambda logits: losses.softmax_cross_entropy(
                    logits, labels, label_smoothing=label_smoothing
                )
            )

        np.testing.assert_allclose(loss_of(mixed)(logits), expected, rtol=1e-12)
        for given in (labels, mixed):
            check_grads(loss_of(given), (logits,), order=1, eps=1e-4, atol=1e-7, rtol=1e-7)


def test_cross_entropy_is_that_of_pytorch(shared):
    with np.load(shared / "parity/ops/losses/dense.npz") as file:
        for case, smoothing in (("cross_entropy_plain", 0), ("cross_entropy_smoothed", 0.1)):
            logits = file[f"{case}/in/logits"].transpose(0, 2, 3, 1)
            labels = file[f"{case}/in/label"]
            counted = labels != 255  # ours are NaN there: the mean must leave them out

            def mean(logits, labels=labels, counted=counted, smoothing=smoothing):
                each = losses.softmax_cross_entropy(logits, labels, label_smoothing=smoothing)
                return losses.weighted_mean(each, counted), each

            (loss, each), gradient = jax.jit(jax.value_and_grad(mean, has_aux=True))(logits)
            assert np.isnan(each[~counted]).all()
            expected = file[f"{case}/out/each"]
            np.testing.assert_allclose(each[counted], expected[counted], rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(loss, file[f"{case}/out/mean"], rtol=1e-6)
            expected = file[f"{case}/out/grad_logits"].transpose(0, 2, 3, 1)
            np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-7)


def test_losses_of_one_score_are_their_formulas():
    random = np.random.default_rng(0)
    scores, signs = random.normal(size=20), random.choice([-1, 1], 20)
    for loss, expected in (
        (losses.perceptron_loss, np.maximum(0, -signs * scores)),
        (losses.logistic_loss, np.log(1 + np.exp(-signs * scores))),
    ):
        found = loss(scores.astype(np.float32), signs)
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        with jax.enable_x64(True):
            check_grads(lambda x, loss=loss: loss(x, signs), (scores,), order=1, eps=1e-6)
        at_zero = jax.vmap(jax.grad(loss))(jnp.zeros(2), jnp.array([1.0, -1.0]))
        assert at_zero.tolist() == ([-1, 1] if loss is losses.perceptron_loss else [-0.5, 0.5])
        with pytest.raises(TypeError, match="expected floats"):
            loss(signs, signs)
        with pytest.raises(ValueError, match="differ in shape"):
            loss(scores, signs[1:])


def test_cross_entropy_of_huge_logits_and_half_precision():
    logits = jnp.array([[1e4, -1e4, 0.0]])
    loss, gradient = jax.value_and_grad(
        lambda logits: losses.softmax_cross_entropy(logits, jnp.array([1])).sum()
    )(logits)
    assert loss == 2e4
    assert gradient.tolist() == [[1, -1, 0]]
    close = jnp.array([[8.0, 8.0625]], jnp.bfloat16)
    loss = losses.softmax_cross_entropy(close, jnp.array([0]))
    assert loss.dtype == jnp.float32
    np.testing.assert_allclose(loss, np.log1p(np.exp(0.0625)), rtol=1e-6)


def test_a_label_that_is_no_class_cannot_pass_unseen():
    labels = np.array([-1, 0, 3, 300])
    loss = losses.softmax_cross_entropy(jnp.zeros((4, 3)), labels)
    assert jnp.isnan(loss).tolist() == [True, False, True, True]
    assert jnp.isnan(losses.one_hot(labels, 3)).all(-1).tolist() == [True, False, True, True]
    wide = losses.softmax_cross_entropy(jnp.arange(300.0)[None], np.array([7], np.uint8))
    np.testing.assert_allclose(wide, -log_softmax(np.arange(300.0))[7], rtol=1e-6)


def test_squared_error_is_its_formula():
    random = np.random.default_rng(0)
    prediction, target = random.normal(size=(2, 3, 4, 2))
    expected = [0.5 * ((p - t) ** 2).sum() for p, t in zip(prediction, target)]
    np.testing.assert_allclose(
        losses.squared_error(*np.float32([prediction, target])), expected, rtol=1e-6
    )
    with jax.enable_x64(True):
        check_grads(losses.squared_error, (prediction, target), order=1, atol=1e-7, rtol=1e-7)
    targets = losses.one_hot(np.array([2, 0], np.uint8), 3, on=1, off=-1)
    assert targets.tolist() == [[-1, -1, 1], [1, -1, -1]]


def test_what_does_not_fit_is_refused():
    logits = jnp.zeros((4, 3))
    with pytest.raises(ValueError, match=r"\(4,\) and \(4, 1\)"):
        losses.softmax_cross_entropy(logits, np.zeros((4, 1), int))
    with pytest.raises(ValueError, match=r"\(4, 3\) and \(4, 2\)"):
        losses.softmax_cross_entropy(logits, jnp.zeros((4, 2)))
    with pytest.raises(ValueError, match="from 0 to 1"):
        losses.softmax_cross_entropy(logits, np.zeros(4, int), label_smoothing=2)
    with pytest.raises(TypeError, match="int32"):
        losses.softmax_cross_entropy(logits.astype(jnp.int32), np.zeros(4, int))
    with pytest.raises(ValueError, match=r"\(4, 3\) and \(4,\)"):
        losses.squared_error(logits, jnp.zeros(4))
    with pytest.raises(ValueError, match=r"\(4, 3\) and \(4,\)"):
        losses.weighted_mean(logits, jnp.ones(4))


def loss_and_gradient(parameters, batch):
    """One device's part of a step, as the training step takes it."""

    def loss_fn(parameters):
        prediction = jnp.tanh(batch["x"] @ parameters)
        each = losses.squared_error(prediction, batch["y"])
        return losses.weighted_mean(each, batch.get("weights"))

    loss, gradient = jax.value_and_grad(loss_fn)(collective.varying_over_data(parameters))
    return loss[None], collective.mean_over_data(gradient)


def on_devices(strategy):
    """The step as four parts: a loss from every part, and one gradient."""
    if strategy in ("vmap", "pmap"):
        mapping = {"vmap": jax.vmap, "pmap": jax.pmap}[strategy]
        mapped = mapping(loss_and_gradient, axis_name="data", in_axes=(None, 0))

        def run(parameters, batch):
            split = jax.tree.map(lambda x: x.reshape(DEVICES, -1, *x.shape[1:]), batch)
            loss, gradient = mapped(parameters, split)
            return loss[:, 0], gradient[0]

        return run
    mesh = Mesh(jax.devices()[:DEVICES], "data")
    return jax.jit(
        jax.shard_map(
            loss_and_gradient,
            mesh=mesh,
            in_specs=(P(), P("data")),
            out_specs=(P("data"), P()),
            check_vma=strategy == "shard_map, checked",
        )
    )


@pytest.mark.parametrize("strategy", ["shard_map, checked", "shard_map, unchecked", "pmap", "vmap"])
@pytest.mark.parametrize("weights", ["none", "unequal", "zero on one device", "all zero"])
def test_the_weighted_mean_does_not_depend_on_the_devices(strategy, weights):
    random = np.random.default_rng(0)
    x, y = random.normal(size=(2, 12, 5)).astype(np.float32)
    parameters = random.normal(size=(5, 5)).astype(np.float32)
    batch = {"x": x, "y": y}
    if weights != "none":
        batch["weights"] = random.integers(0, 4, 12).astype(np.float32)
        batch["weights"][3:6] *= weights == "unequal"
        batch["weights"] *= weights != "all zero"
    expected_loss, expected_gradient = jax.jit(loss_and_gradient)(parameters, batch)
    each = 0.5 * ((np.tanh(x @ parameters) - y) ** 2).sum(1)
    counted = batch.get("weights", np.ones(12))
    by_hand = (counted * each).sum() / max(counted.sum(), 1)
    np.testing.assert_allclose(expected_loss, [by_hand], rtol=1e-6)

    loss, gradient = on_devices(strategy)(parameters, batch)
    np.testing.assert_allclose(loss, np.full(DEVICES, by_hand), rtol=1e-6)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-5, atol=1e-6)
    assert bool(np.any(expected_gradient)) == (weights != "all zero")


def test_the_gradient_of_the_weighted_mean_is_the_finite_difference():
    random = np.random.default_rng(0)
    values, weights = random.normal(size=(2, 7))
    with jax.enable_x64(True):
        mean = jax.jit(lambda values: losses.weighted_mean(values, np.abs(weights)))
        check_grads(mean, (values,), order=1, atol=1e-8, rtol=1e-8)
    of_weights = jax.grad(losses.weighted_mean, argnums=1)(jnp.arange(3.0), jnp.ones(3))
    assert of_weights.tolist() == [0, 0, 0]  # constants, though the mean depends on them


def test_a_weight_of_zero_silences_even_nan():
    def mean(x):
        return losses.weighted_mean(jnp.log(x), jnp.array([1.0, 0.0]))

    loss, gradient = jax.value_and_grad(mean)(jnp.array([2.0, -1.0]))
    np.testing.assert_allclose(loss, np.log(2), rtol=1e-6)
    assert gradient.tolist() == [0.5, 0]
    assert jnp.isnan(losses.weighted_mean(jnp.array([1.0, jnp.nan])))
    assert jnp.isnan(losses.weighted_mean(jnp.ones(2), jnp.array([1.0, jnp.nan])))
