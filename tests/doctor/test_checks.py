"""What each check says of data and states that are broken on purpose, and of sound ones."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import convnets
from convnets.data.sources import ArraySource
from convnets.doctor import (
    check_batch_norm,
    check_collapse,
    check_data,
    check_overfit,
    check_size,
)
from convnets.doctor.rate import _judge
from convnets.layers import BatchNorm, Conv, Dense, constant, relu, zeros
from convnets.ops import global_average_pool
from convnets.ops.image import Normalization

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
        "duplicates": with_train(images[[*range(120), 0, 1]], np.r_[labels, (labels[:2] + 1) % 10]),
        "labels": with_train(labels=rng.permutation(labels)),
    }
    for subject, dataset in cases.items():
        findings = {finding.subject: finding for finding in check_data(dataset)}
        # Without a trial, labels that tell nothing are no more than suspicious.
        assert findings[subject].verdict == ("warning" if subject == "labels" else "wrong"), subject
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
    equal = check_collapse(Deep(zero=True), DIGITS, state_of(Deep(zero=True)))
    assert verdicts(equal)["weights"] == "wrong"
    assert "conv/kernel" in _found(equal, "weights")


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
