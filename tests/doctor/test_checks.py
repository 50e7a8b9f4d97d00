"""What each check says of data and states that are broken on purpose, and of sound ones."""

import dataclasses
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import convnets
from convnets.data.dataset import channel_statistics
from convnets.data.sources import ArraySource
from convnets.doctor import (
    check_batch_norm,
    check_collapse,
    check_data,
    check_overfit,
    check_size,
    measure_signals,
)
from convnets.doctor.data import _check_leakage, _digests
from convnets.doctor.rate import _judge
from convnets.layers import BatchNorm, Conv, Dense, constant, relu, zeros
from convnets.ops import global_average_pool
from convnets.ops.image import Normalization, prepare

from ..small_runs import LINEAR, Normed, few_digits

DIGITS = few_digits()


def verdicts(findings):
    return {finding.subject: finding.verdict for finding in findings}


def with_train(images=None, labels=None):
    images = DIGITS.train.images if images is None else images
    labels = DIGITS.train.labels if labels is None else labels
    return dataclasses.replace(DIGITS, train=ArraySource(images, labels))


def test_sound_data_pass():
    findings = check_data(DIGITS)
    assert set(verdicts(findings).values()) == {"ok"}
    numbers = {finding.subject: finding.value for finding in findings}
    assert numbers["range"] == 255
    assert numbers["leakage"] == numbers["duplicates"] == 0
    assert numbers["normalization"] == pytest.approx(1, abs=0.2)  # of all digits, not of these


def test_broken_data_are_told_apart():
    rng = np.random.default_rng(0)
    images, labels = DIGITS.train.images, DIGITS.train.labels
    leaky = ArraySource(np.concatenate([images[:10], DIGITS.test.images]), np.zeros(60, int))
    cases = {
        "range": with_train(images // 255),
        "normalization": dataclasses.replace(DIGITS, normalization=Normalization((0,), (1 / 255,))),
        "classes": with_train(images[labels != 3], labels[labels != 3]),
        "leakage": dataclasses.replace(DIGITS, test=leaky),
        "splits": dataclasses.replace(
            DIGITS, test=ArraySource(255 - DIGITS.test.images, DIGITS.test.labels)
        ),
        "duplicates": with_train(images[[*range(120), 0, 1]], np.r_[labels, (labels[:2] + 1) % 10]),
        "labels": with_train(labels=rng.permutation(labels)),
    }
    for subject, dataset in cases.items():
        findings = {finding.subject: finding for finding in check_data(dataset)}
        # Without a trial, labels that tell nothing are no more than suspicious.
        suspicious = subject in ("labels", "splits")
        assert findings[subject].verdict == ("warning" if suspicious else "wrong"), subject
        assert findings[subject].advice
    assert "no training image of 3" in _found(check_data(cases["classes"]), "classes")
    shares = {f.subject: f.value for f in check_data(cases["leakage"])}
    assert shares["leakage"] == pytest.approx(100 * 10 / 60)


def _found(findings, subject):
    return next(finding.found for finding in findings if finding.subject == subject)


class Blind(nn.Module):
    """Sees the mean of the image alone."""

    @nn.compact
    def __call__(self, images, *, train: bool):
        return Dense(10)(0 * global_average_pool(images))


def test_what_learns_a_few_images_and_what_does_not():
    assert check_overfit(LINEAR, DIGITS).verdict == "ok"
    finding = check_overfit(Blind(), DIGITS)
    assert finding.verdict == "wrong"
    assert 50 < finding.value <= 100


class Deep(nn.Module):
    bias: float = 0.0
    zero: bool = False

    @nn.compact
    def __call__(self, images, *, train: bool):
        init = {"kernel_init": zeros} if self.zero else {}
        x = relu(Conv(4, 3, 4, name="conv", **init)(images)).reshape(len(images), -1)
        x = relu(Dense(16, name="dense", bias_init=constant(self.bias), **init)(x))
        return Dense(10, name="head", **init)(x)


def state_of(model):
    images = jnp.zeros((1, *DIGITS.image_shape))
    variables = model.init(jax.random.key(0), images, train=False)
    optimizer = convnets.create_optimizer("sgd", 0.1)
    return convnets.TrainState.create(
        variables, optimizer, jax.random.key(0), normalization=DIGITS.normalization
    )


def test_dead_units_are_counted_and_named():
    healthy = check_collapse(Deep(), DIGITS, state_of(Deep()))
    assert set(verdicts(healthy).values()) == {"ok"}
    dead = check_collapse(Deep(bias=-100.0), DIGITS, state_of(Deep(bias=-100.0)))
    assert verdicts(dead) == {
        "weights": "ok",
        "units": "wrong",
        "signal": "wrong",
        "outputs": "wrong",
    }
    assert next(f for f in dead if f.subject == "units").value == 100
    assert "of dense," in _found(dead, "units")
    by_layer = dict(zip(("conv", "dense", "head"), measured(Deep(bias=-100.0))))
    assert by_layer == {"conv": 1, "dense": 1, "head": 0}
    equal = check_collapse(Deep(zero=True), DIGITS, state_of(Deep(zero=True)))
    assert verdicts(equal)["weights"] == "wrong"
    assert "conv/kernel" in _found(equal, "weights")


def measured(model):
    """The share of dead units of each layer."""
    images = prepare(DIGITS.train.images[:20], DIGITS.normalization)
    variables = model.init(jax.random.key(0), images, train=False)
    logits, signals = measure_signals(model, variables, images)
    assert logits.shape == (20, 10)
    return [signal.dead for signal in signals]


class Squashing(nn.Module):
    bias: float
    squash: Callable

    @nn.compact
    def __call__(self, images, *, train: bool):
        x = Dense(16, name="first")(images.reshape(len(images), -1))
        bias = jnp.where(jnp.arange(16) < 12, self.bias, 0.0)[None]
        return Dense(10, name="head")(self.squash(x + bias))


@pytest.mark.parametrize("squash", [nn.sigmoid, jnp.tanh])
@pytest.mark.parametrize("bias", [-12.0, 12.0])
def test_saturated_units_are_counted(squash, bias):
    """12 of 16 units are at their ends for every image; the gradient does reach them."""
    model = Squashing(bias, squash)
    findings = check_collapse(model, DIGITS, state_of(model))
    assert verdicts(findings)["saturation"] == "warning"
    assert next(f.value for f in findings if f.subject == "saturation") == 75
    sound = Squashing(0.0, squash)
    assert verdicts(check_collapse(sound, DIGITS, state_of(sound)))["saturation"] == "ok"


def test_examples_without_a_label_and_a_single_image_break_nothing():
    labels = DIGITS.train.labels.copy()
    labels[::2] = -1
    half = verdicts(check_data(with_train(labels=labels)))
    assert half["classes"] == "ok"
    one = with_train(DIGITS.train.images[:1], DIGITS.train.labels[:1])
    (alone,) = check_batch_norm(LINEAR, one, state_of(LINEAR))
    assert alone.verdict == "not checked"
    assert verdicts(check_collapse(LINEAR, one, state_of(LINEAR)))["outputs"] == "not checked"
    empty = DIGITS.test.select(np.arange(0))
    nothing = dataclasses.replace(DIGITS, test=empty, validation=None)
    assert verdicts(check_data(nothing))["leakage"] == "not checked"


def test_floats_count_as_they_are():
    """What a function makes of images has its own range, and no normalization."""
    floats = convnets.data.map_images(DIGITS, lambda images: np.float32(images) / 255)
    findings = {finding.subject: finding for finding in check_data(floats)}
    assert findings["range"].verdict == "ok"
    assert findings["range"].value == 1
    own = channel_statistics(DIGITS.train)
    np.testing.assert_allclose(channel_statistics(floats.train), own, rtol=1e-5)
    size = np.hypot(own.mean[0], own.std[0])
    assert findings["normalization"].value == pytest.approx(size, rel=1e-5)


def test_leaks_are_reckoned_up_from_the_sample_that_was_read(monkeypatch):
    """Of 200 training images 50 are read; half of the test images are among the 200."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (200, 8, 8, 1)).astype(np.uint8)
    other = rng.integers(0, 256, (100, 8, 8, 1)).astype(np.uint8)
    mixed = np.concatenate([images[:100], other])
    digests = {"train": _digests(images[::4]), "test": _digests(mixed)}
    finding = _check_leakage(digests, {"train": 200, "test": 200})
    assert finding.value == 50
    assert "reckoned from 50 of 200" in finding.found
    digests = {"train": _digests(images), "validation": _digests(other), "test": _digests(other)}
    finding = _check_leakage(digests, {"train": 200, "validation": 100, "test": 100})
    assert (finding.value, finding.verdict) == (100, "wrong")
    assert "images of test that are images of validation" in finding.found


class Own(BatchNorm):
    """Batch norm by the batch, at test too."""

    @nn.compact
    def __call__(self, x, *, train: bool):
        self.variable("batch_stats", "mean", jnp.zeros, (x.shape[-1],))
        return x - x.mean(0, keepdims=True)


class Neighbors(nn.Module):
    @nn.compact
    def __call__(self, images, *, train: bool):
        return Dense(10)(Own(name="norm")(images.reshape(len(images), -1), train=train))


def test_batch_norm_of_the_batch_at_test_is_found():
    state = state_of(Normed())
    sound = check_batch_norm(Normed(), DIGITS, state, steps=200, batch_size=24)
    assert verdicts(sound) == {"test mode": "ok", "statistics": "ok", "modes": "ok"}
    found = check_batch_norm(Neighbors(), DIGITS, state_of(Neighbors()), steps=200)
    assert verdicts(found)["test mode"] == "wrong"


def test_statistics_that_stand_still_or_crawl_are_found():
    state = state_of(Normed())
    still = check_batch_norm(Normed(), DIGITS, state, before=state, steps=200)
    assert verdicts(still)["statistics"] == "wrong"
    crawling = check_batch_norm(Normed(), DIGITS, state, steps=30)  # 0.9 ** 30 is 4 %
    assert verdicts(crawling)["statistics"] == "warning"
    single = check_batch_norm(Normed(), DIGITS, state, steps=200, batch_size=1)
    assert verdicts(single)["statistics"] == "warning"


def test_sizes_and_the_receptive_field_are_counted():
    memory, field = check_size(convnets.create_model("lenet1", num_classes=10), DIGITS)
    assert (memory.verdict, field.verdict) == ("ok", "ok")
    assert "16x16 of 28x28" in field.found
    _, field = check_size(convnets.create_model("linear", num_classes=10), DIGITS)
    assert (field.verdict, field.value) == ("ok", 100)


@pytest.mark.parametrize(
    ("ratio", "finite", "learned", "behind", "verdict"),
    [
        (1, True, True, False, "ok"),
        (100, True, False, True, "wrong"),
        (1, False, False, True, "wrong"),
        (1e-3, True, True, True, "wrong"),
        (1e-3, True, True, False, "ok"),
        (1 / 50, True, True, True, "warning"),
        (1, True, False, True, "warning"),
    ],
)
def test_rates_are_judged_by_what_becomes_of_them(ratio, finite, learned, behind, verdict):
    assert _judge(ratio, finite, learned, behind)[0] == verdict
