"""Steps along the gradient, against what they are by hand, and what a search finds."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convnets.adversarial import (
    deepfool,
    fast_gradient_sign,
    gradient_step,
    projected_gradient,
    random_signs,
)
from convnets.adversarial.victim import loss_gradient
from convnets.errors import UserError

from .victims import IMAGES, WEIGHTS, bent, labels_of, linear

LABELS = labels_of(linear)
KEYS = jax.random.split(jax.random.key(0), len(IMAGES))


def by_hand(labels=LABELS):
    """The gradient of the linear classifier's cross entropy."""
    probabilities = np.asarray(jax.nn.softmax(linear(IMAGES)))
    return ((probabilities - np.eye(3)[labels]) @ WEIGHTS.T).reshape(IMAGES.shape)


def loss(classify, images, labels):
    log = jax.nn.log_softmax(classify(jnp.asarray(images)))
    return -np.asarray(log)[np.arange(len(labels)), labels]


def test_a_plain_step_is_the_gradient_and_a_target_turns_it():
    moved = gradient_step(linear, IMAGES, LABELS, rate=0.1)
    np.testing.assert_allclose(moved, np.clip(IMAGES + 0.1 * by_hand(), 0, 1), atol=1e-6)
    target = (LABELS + 1) % 3
    moved = gradient_step(linear, IMAGES, LABELS, rate=9.0, target=target, clip=False)
    np.testing.assert_allclose(moved, IMAGES - 9 * by_hand(target), atol=1e-5)
    np.testing.assert_array_equal(linear(moved).argmax(1), target)


def test_the_sign_is_the_worst_corner_of_the_box_for_two_classes():
    image = IMAGES[:1, :1]  # of 6 pixels
    weights = WEIGHTS[:6, :2]

    def small(images):
        return images.reshape(len(images), -1) @ weights

    label = np.asarray(small(image)).argmax(1)
    corners = np.array(list(itertools.product((-0.2, 0.2), repeat=6)), np.float32)
    corners = corners.reshape(-1, 1, 6, 1) + image
    worst = corners[loss(small, corners, np.repeat(label, len(corners))).argmax()]
    np.testing.assert_allclose(fast_gradient_sign(small, image, label, epsilon=0.2)[0], worst)


def test_bytes_are_pixels_of_0_to_1():
    images = np.round(255 * IMAGES).astype(np.uint8)
    attacked = fast_gradient_sign(linear, images, LABELS, epsilon=0.25)
    assert attacked.dtype == jnp.float32
    np.testing.assert_allclose(np.abs(attacked - images / 255), 0.25, atol=1e-6)


def test_random_signs_are_of_one_size_and_each_images_own():
    changes = np.asarray(random_signs(None, IMAGES, None, KEYS, epsilon=0.25)) - IMAGES
    np.testing.assert_allclose(np.abs(changes), 0.25, atol=1e-6)
    assert 0.2 < (changes > 0).mean() < 0.8
    again = random_signs(None, IMAGES[3:], None, KEYS[3:], epsilon=0.25)
    np.testing.assert_allclose(again - IMAGES[3:], changes[3:], atol=1e-6)
    assert np.abs(changes[0] - changes[1]).max() > 0.4


@pytest.mark.parametrize(("norm", "start"), [("max", None), ("max", KEYS), ("l2", KEYS)])
def test_projected_steps_stay_near_and_are_the_strongest(norm, start):
    labels, epsilon = labels_of(bent), {"max": 0.1, "l2": 0.4}[norm]
    attacked = projected_gradient(bent, IMAGES, labels, start, epsilon=epsilon, norm=norm, steps=10)
    change = np.asarray(attacked) - IMAGES
    size = np.abs(change).max((1, 2, 3))
    if norm == "l2":
        size = np.sqrt(np.square(change).sum((1, 2, 3)))
    assert size.max() <= epsilon + 1e-6
    assert attacked.min() >= 0
    assert attacked.max() <= 1
    weaker = [IMAGES]
    if norm == "max":
        weaker.append(fast_gradient_sign(bent, IMAGES, labels, epsilon=epsilon))
    else:
        _, slope, _ = loss_gradient(bent, jnp.asarray(IMAGES), labels)
        whole = epsilon * slope / jnp.sqrt(jnp.square(slope).sum((1, 2, 3), keepdims=True))
        weaker.append(np.clip(IMAGES + whole, 0, 1))
    wrong = np.asarray(bent(attacked)).argmax(1) != labels
    for images in weaker:
        other = np.asarray(bent(jnp.asarray(images))).argmax(1) != labels
        assert (wrong >= other).all()
        same = wrong == other
        ours, theirs = loss(bent, attacked, labels), loss(bent, images, labels)
        assert (ours[same] >= theirs[same] - 1e-5).all()
    assert loss(bent, attacked, labels).mean() > loss(bent, weaker[-1], labels).mean()


def test_what_is_no_attack_is_refused():
    with pytest.raises(UserError, match="unknown norm 'l1'"):
        projected_gradient(linear, IMAGES, LABELS, epsilon=0.1, norm="l1")
    with pytest.raises(UserError, match="at least 1 step"):
        projected_gradient(linear, IMAGES, LABELS, epsilon=0.1, steps=0)
    with pytest.raises(UserError, match="step_size is at least 0"):
        projected_gradient(linear, IMAGES, LABELS, epsilon=0.1, step_size=-1.0)
    for attack in (fast_gradient_sign, random_signs, projected_gradient):
        with pytest.raises(UserError, match="as 8 / 255, not 8"):
            attack(linear, IMAGES, LABELS, KEYS, epsilon=8)
    with pytest.raises(UserError, match="2 classes, not 50 and 1"):
        deepfool(linear, IMAGES, classes=1)


def test_what_is_no_batch_is_refused():
    for attack in (fast_gradient_sign, projected_gradient):
        with pytest.raises(UserError, match="came up to"):
            attack(linear, 255 * IMAGES, LABELS, epsilon=0.1)
        with pytest.raises(UserError, match="a label for each of 6 images"):
            attack(linear, IMAGES, LABELS[:2], epsilon=0.1)
        with pytest.raises(UserError, match="at least one"):
            attack(linear, IMAGES[:0], LABELS[:0], epsilon=0.1)


def test_sizes_may_be_looked_for_within_a_jit():
    def attack(epsilon):  # of images that are constants there
        return projected_gradient(linear, IMAGES, LABELS, epsilon=epsilon, steps=2)

    expected = projected_gradient(linear, IMAGES, LABELS, epsilon=0.1, steps=2)
    np.testing.assert_allclose(jax.jit(attack)(0.1), expected, atol=1e-6)


def test_attacks_are_called_alike():
    for attack in (partial(gradient_step, rate=0.1), deepfool):
        assert attack(linear, IMAGES, LABELS, KEYS).shape == IMAGES.shape
