"""Adversarial training: what is minimized, and the same numbers under every compilation."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import convnets
from convnets.adversarial import adversarial_classification, adversarial_loss, fast_gradient_sign
from convnets.errors import UserError

from ..small_runs import LINEAR, Normed, few_digits

DATASET = few_digits()
BATCH = DATASET.train.batch(np.arange(16))
SHAPE = (1, *DATASET.image_shape)


def start(model, loss_fn):
    variables = model.init(jax.random.key(0), jnp.zeros(SHAPE), train=False)
    optimizer = optax.sgd(0.05)
    state = convnets.TrainState.create(variables, optimizer, jax.random.key(1))
    return state, convnets.make_step(loss_fn, optimizer)


def test_it_is_the_loss_on_attacked_images():
    plain = convnets.classification_loss(LINEAR, normalization=DATASET.normalization)
    state, _ = start(LINEAR, plain)
    key = jax.random.key(2)

    def classify(images):
        images = convnets.prepare(images, DATASET.normalization)
        return LINEAR.apply({"params": state.params}, images, train=False)

    attacked = fast_gradient_sign(classify, BATCH["image"], BATCH["label"], epsilon=0.1)
    alone, (_, measured) = plain(state.params, {}, BATCH, key)
    worse, _ = plain(state.params, {}, {**BATCH, "image": attacked}, key)
    assert worse > alone
    for share in (0.0, 0.5):
        loss_fn = adversarial_loss(plain, epsilon=0.1, share=share)
        value, (_, found) = loss_fn(state.params, {}, BATCH, key)
        assert value == pytest.approx(share * float(alone) + (1 - share) * float(worse), rel=1e-5)
        assert float(found["adversarial_loss"][0]) == pytest.approx(16 * float(worse), rel=1e-5)
    assert float(found["loss"][0]) == pytest.approx(16 * float(alone), rel=1e-5)
    assert found["loss"][0] == measured["loss"][0]
    evaluated = loss_fn(state.params, {}, BATCH, None)
    assert evaluated[0] == plain(state.params, {}, BATCH, None)[0]


@pytest.mark.parametrize("options", [{"steps": 1}, {"steps": 3}, {"steps": 3, "step_size": 0.5}])
def test_what_it_is_trained_on_is_near(options):
    """Within epsilon and [0, 1], and where the loss is larger; many steps begin at random."""
    plain, given = convnets.classification_loss(LINEAR), []

    def noting(params, batch_stats, batch, key):
        given.append(batch["image"])
        return plain(params, batch_stats, batch, key)

    state, _ = start(LINEAR, plain)
    loss_fn = adversarial_loss(noting, epsilon=0.1, share=0.0, **options)
    worse, _ = loss_fn(state.params, {}, BATCH, jax.random.key(2))
    clean, attacked = BATCH["image"] / 255, np.asarray(given[-1])
    assert np.abs(attacked - clean).max() == pytest.approx(0.1, abs=1e-5)
    assert 0 <= attacked.min() <= attacked.max() <= 1
    assert worse > plain(state.params, {}, BATCH, None)[0]
    again, _ = loss_fn(state.params, {}, BATCH, jax.random.key(2))
    assert again == worse


@pytest.mark.parametrize("steps", [1, 2])
def test_the_same_numbers_under_every_compilation(steps):
    model = Normed()
    loss_fn = adversarial_classification(
        model, normalization=DATASET.normalization, epsilon=0.1, steps=steps
    )
    state, step = start(model, loss_fn)
    found = {}
    for strategy, devices in (("jit", 1), ("shard_map", 4), ("pmap", 4)):
        compiled = convnets.parallel.compile(step, strategy, devices=devices, donate=False)
        one, metrics = compiled(state, BATCH)
        two, _ = compiled(one, BATCH)
        found[strategy, devices] = jax.device_get((two.params, two.batch_stats, metrics))
    (_, first), *others = found.items()
    for _, other in others:
        jax.tree.map(partial(np.testing.assert_allclose, rtol=2e-4, atol=1e-5), first, other)


def test_what_is_no_training_is_refused():
    plain = convnets.classification_loss(LINEAR)
    for options in ({"epsilon": 0}, {"epsilon": 0.1, "share": 1}, {"epsilon": 0.1, "steps": 0}):
        with pytest.raises(UserError, match="adversarial training takes"):
            adversarial_loss(plain, **options)
    for options in ({"step_size": 0.1}, {"step_size": 0.0, "steps": 2}):
        with pytest.raises(UserError, match="step_size is above 0 and of several steps"):
            adversarial_loss(plain, epsilon=0.1, **options)
