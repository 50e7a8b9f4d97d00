"""Supervised plus unsupervised: by hand, on one device and on many, with labels missing."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import convnets
from convnets.models import MLP, Classifier
from convnets.semi_supervised import Method, labeled_only
from convnets.unsupervised import (
    DenseDecoder,
    add_gaussian_noise,
    consistency_loss,
    reconstruction_loss,
)

from .small_runs import few_digits, fit

MODEL = convnets.ReconstructingClassifier(Classifier(MLP((8,)), num_classes=10), DenseDecoder(784))
SPARSE = partial(reconstruction_loss, sparsity=0.01)


def move_one_pixel(key, image):
    return jnp.roll(image, jax.random.randint(key, (), -1, 2), axis=1)


@pytest.fixture(scope="module")
def params():
    return MODEL.init(jax.random.key(0), jnp.zeros((1, 28, 28, 1)), train=False)["params"]


def batch(count=8):
    whole = few_digits().train.batch(np.arange(count))
    return whole | {"label": np.where(np.arange(count) % 4 == 0, whole["label"], -1)}


def test_the_loss_is_the_sum_of_both(params):
    given, known = batch(), np.arange(8) % 4 == 0
    few = {name: array[known] for name, array in given.items()}
    error, (_, first) = convnets.classification_loss(MODEL)(params, {}, few, None)
    other, (_, second) = SPARSE(Method(MODEL, "reconstruct"))(params, {}, given, None)
    loss_fn = convnets.semi_supervised_loss(MODEL, weight=0.3, unsupervised=SPARSE)
    total, (stats, measured) = loss_fn(params, {}, given, None)
    assert float(total) == pytest.approx(float(error + 0.3 * other), rel=1e-6)
    assert stats == {}
    found, one, both = map(convnets.metrics.finish, (measured, first, second))
    assert found["loss"] == pytest.approx(float(total), rel=1e-6)
    assert found["supervised_loss"] == pytest.approx(one["loss"], rel=1e-6)
    assert found["accuracy"] == one["accuracy"]
    assert found["unsupervised_loss"] == pytest.approx(both["loss"], rel=1e-6)
    assert found["unexplained"] == pytest.approx(both["unexplained"], rel=1e-6)


def test_the_unsupervised_error_may_be_of_the_logits(params):
    classifier = MODEL.classifier
    given = {"params": params["classifier"]}
    objective = partial(
        convnets.semi_supervised_loss,
        weight=2.0,
        unsupervised=partial(consistency_loss, augment=move_one_pixel),
        method="__call__",
    )
    none = batch() | {"label": np.full(8, -1)}
    grads, (_, measured) = jax.grad(objective(classifier), has_aux=True)(
        given["params"], {}, none, jax.random.key(1)
    )
    found = convnets.metrics.finish(measured)
    assert found["loss"] == pytest.approx(2 * found["unsupervised_loss"], rel=1e-6)
    assert np.any(grads["head"]["kernel"])
    with pytest.raises(convnets.UserError, match="Classifier has no 'reconstruct'"):
        convnets.semi_supervised_loss(classifier)


def test_what_has_no_label_moves_the_decoder_and_not_the_head(params):
    loss_fn = convnets.semi_supervised_loss(MODEL)
    none = batch() | {"label": np.full(8, -1)}
    grads, (_, measured) = jax.grad(loss_fn, has_aux=True)(params, {}, none, jax.random.key(1))
    assert not np.any(grads["classifier"]["head"]["kernel"])
    assert np.any(grads["classifier"]["backbone"]["dense1"]["kernel"])
    assert np.any(grads["decoder"]["dense"]["kernel"])
    assert jax.tree.all(jax.tree.map(lambda x: bool(jnp.isfinite(x).all()), grads))
    assert int(measured["accuracy"][1]) == 0


def test_a_mask_says_the_same_as_missing_labels(params):
    loss_fn, given = convnets.semi_supervised_loss(MODEL), batch()
    known = few_digits().train.batch(np.arange(8)) | {"labeled": given["label"] >= 0}
    assert float(loss_fn(params, {}, given, None)[0]) == float(loss_fn(params, {}, known, None)[0])
    padded = labeled_only({"label": jnp.array([1, 2, -1]), "mask": jnp.array([True, False, True])})
    assert padded["mask"].tolist() == [True, False, False]


def test_every_compilation_takes_the_same_step(params):
    """Labels lie unevenly over the devices, of which some have none."""
    loss_fn = convnets.semi_supervised_loss(
        MODEL, unsupervised=partial(reconstruction_loss, corrupt=add_gaussian_noise)
    )
    optimizer, found = optax.sgd(0.1), {}
    for strategy, devices in (("jit", 1), ("jit", 4), ("shard_map", 4)):
        step = convnets.make_step(loss_fn, optimizer)
        step = convnets.parallel.compile(step, strategy, devices=devices)
        state = convnets.TrainState.create({"params": params}, optimizer, jax.random.key(2))
        *_, (_, state, measured) = convnets.train(step, state, [batch()] * 2, stop=2)
        found[strategy, devices] = convnets.parallel.gather(state).params
        loss = convnets.metrics.finish(measured)["loss"]
        assert loss == pytest.approx(found.setdefault("loss", loss), rel=1e-5)
    for key in (("jit", 4), ("shard_map", 4)):
        same = jax.tree.map(partial(np.allclose, atol=1e-5), found[key], found["jit", 1])
        assert jax.tree.all(same)


def test_fit_learns_from_few_labels_and_opens_again(tmp_path):
    dataset = convnets.data.hide_labels(few_digits(), 2, share=0.5)
    objective = partial(convnets.semi_supervised_loss, weight=0.1)
    options = {"objective": objective, "workdir": str(tmp_path / "run")}
    result = fit(MODEL, dataset, **options)
    assert {"test_accuracy", "test_unexplained"} < result.history[-1].keys()
    images = dataset.test.images[:4]
    run = convnets.load_run(tmp_path / "run", model=MODEL)
    again = convnets.predict(run.model, run.state, images)
    assert np.array_equal(convnets.predict(MODEL, result.state, images), again)


def test_labels_that_are_missing_need_an_objective():
    dataset = convnets.data.hide_labels(few_digits(), 2)
    with pytest.raises(convnets.UserError, match="100 of 120 examples to train on have no label"):
        fit(dataset=dataset)


def test_batches_without_labels_are_refused():
    with pytest.raises(convnets.UserError, match="-1 where there is none; came image"):
        labeled_only({"image": jnp.zeros((2, 28, 28, 1))})


@pytest.mark.parametrize("weight", [-1.0, float("nan")])
def test_a_negative_weight_is_refused(weight):
    with pytest.raises(convnets.UserError, match="must not be negative"):
        convnets.semi_supervised_loss(MODEL, weight=weight)


def test_a_decoder_of_other_images_is_refused():
    model = convnets.ReconstructingClassifier(MODEL.classifier, DenseDecoder(9))
    with pytest.raises(convnets.UserError, match=r"makes \(9,\) of the code \(8,\), not images"):
        model.init(jax.random.key(0), jnp.zeros((1, 28, 28, 1)), train=False)
