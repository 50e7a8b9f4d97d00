"""Warm-ups, by hand."""

import numpy as np
import optax
import pytest

import convnets


def test_warm_ups_of_goyal():
    """Section 2.2: to the rate of a batch 32 times as large, from that of the small one."""
    small, large = 0.1, convnets.linear_scaling(0.1, 8192)
    for kind, before in (("constant", [small] * 5), ("gradual", np.linspace(small, large, 5))):
        rate = convnets.create_schedule(
            "constant", large, 20, warmup=5, warmup_kind=kind, warmup_rate=small
        )
        expected = [*before, large, large, large]
        np.testing.assert_allclose(
            [rate(step) for step in range(8)], expected, rtol=1e-6, atol=1e-6
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"warmup": 5, "warmup_kind": "constnat"}, "unknown kind of warm-up.*'constant'"),
        ({"warmup": 5, "warmup_kind": "constant"}, "a constant warm-up needs its learning rate"),
        ({"warmup": 5, "warmup_rate": -1.0}, "must be positive, not -1.0"),
        ({"warmup_rate": 0.1}, "needs its steps"),
        ({"warmup_kind": "constant", "warmup_rate": 0.1}, "needs its steps"),
    ],
)
def test_warm_ups_that_say_too_little_are_refused(options, message):
    with pytest.raises(convnets.UserError, match=message):
        convnets.create_schedule("cosine", 0.4, 20, **options)


def test_linear_scaling_goes_as_far_as_the_steps_that_it_stands_for():
    """Where the gradient hardly changes meanwhile: equations 3 and 4 of Goyal et al. 2017."""
    gradient, x = np.float32([0.3, -2.0]), np.zeros(2, np.float32)
    for _ in range(8):
        x += np.asarray(optax.sgd(0.1).update(gradient, optax.sgd(0.1).init(x))[0])
    rate = convnets.linear_scaling(0.1, 8 * 256)
    once = optax.sgd(rate).update(gradient, optax.sgd(rate).init(x))[0]
    np.testing.assert_allclose(once, x, rtol=1e-6)


def test_any_fall_of_the_loss_is_an_improvement():
    plateau, observe = convnets.reduce_on_plateau(patience=2)
    state = plateau.init({})
    for loss in (1.0, 1.0 - 1e-6, 1.0 - 2e-6, 1.0 - 3e-6):
        state = observe(state, loss)
    assert float(plateau.update(1.0, state)[0]) == 1
    for loss in (1.0, 1.0):
        state = observe(state, loss)
    assert float(plateau.update(1.0, state)[0]) < 1


def test_a_gradual_warm_up_rises():
    with pytest.raises(convnets.UserError, match="rises to 0.1, not falls from 5.0"):
        convnets.create_schedule("cosine", 0.1, 10, warmup=2, warmup_rate=5.0)
