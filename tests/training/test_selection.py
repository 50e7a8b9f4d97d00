"""Rates by path, and frozen parameters, which keep every bit."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import convnets
from convnets.training import scale_rates
from convnets.training.flattening import flatten

PARAMS = {
    "backbone": {"conv1": {"kernel": jnp.ones((2, 2)), "bias": jnp.array([-0.0, 0.0, 3e-45])}},
    "head": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)},
}
GRADS = jax.tree.map(lambda x: 2 + jnp.arange(x.size, dtype=x.dtype).reshape(x.shape), PARAMS)


def one_step(optimizer, params=PARAMS, grads=GRADS):
    @jax.jit
    def step(params, grads):
        updates, state = optimizer.update(grads, optimizer.init(params), params)
        return optax.apply_updates(params, updates), state

    return step(params, grads)


def test_the_first_match_multiplies_the_rate_and_its_decay():
    scales = {"head/bias": 3.0, "head/*": 0.5, "*/bias": 2.0}
    factors = {"head/bias": 3.0, "head/kernel": 0.5, "backbone/conv1/bias": 2.0}
    for name in ("momentum", "adamw"):
        settings = {"weight_decay": 0.1, "clip": 1.0}
        plain, _ = one_step(convnets.create_optimizer(name, 0.1, **settings))
        scaled, _ = one_step(convnets.create_optimizer(name, 0.1, **settings, rate_scales=scales))
        plain, scaled, start = flatten(plain), flatten(scaled), flatten(PARAMS)
        for path, x in start.items():
            factor = factors.get(path.replace(".", "/"), 1.0)
            moved = factor * (plain[path] - x)
            np.testing.assert_allclose(scaled[path] - x, moved, rtol=1e-4, atol=1e-7, err_msg=path)


@pytest.mark.parametrize("name", ["momentum", "adamw", "muon"])
def test_frozen_parameters_keep_every_bit_and_take_no_memory(name):
    frozen = ("backbone/*", "head/bias")
    optimizer = convnets.create_optimizer(name, 0.1, weight_decay=0.1, freeze=frozen)
    params, state = one_step(optimizer)
    for path, x in flatten(params).items():
        same = x.tobytes() == flatten(PARAMS)[path].tobytes()
        assert same == (path != "head.kernel"), path
    paths = list(flatten(state))
    assert not [path for path in paths if "backbone" in path or "bias" in path]
    assert [path for path in paths if path.endswith("head.kernel")]


def test_gradients_that_are_accumulated_are_kept_of_frozen_parameters_too():
    optimizer = convnets.create_optimizer("adamw", 0.1, freeze="backbone/*")
    several = optax.MultiSteps(optimizer, 2).gradient_transformation()
    kept = [{path for path in paths_of(x.init) if "backbone" in path} for x in (optimizer, several)]
    names = ("bias", "kernel")
    assert kept == [set(), {f"acc_grads.backbone.conv1.{name}" for name in names}]


def paths_of(init):
    """The paths of an optimizer's state."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(jax.eval_shape(init, PARAMS))
    return [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves]


def test_what_is_frozen_does_not_count_in_the_norm():
    optimizer = convnets.create_optimizer("sgd", 1.0, clip=1.0, freeze=["head/kernel", "backbone*"])
    params, _ = one_step(optimizer)
    g = np.array([2.0, 3.0, 4.0])
    np.testing.assert_allclose(params["head"]["bias"], 1 - g / np.linalg.norm(g), rtol=1e-6)


def test_freezing_holds_before_other_rates_and_under_the_name_of_the_collection():
    optimizer = scale_rates(optax.sgd(1.0), [("head/*", 0.0), ("head/*", 5.0), ("*", 0.5)])
    params, _ = one_step(optimizer, {"params": PARAMS}, {"params": GRADS})
    assert params["params"]["head"]["bias"].tolist() == [1, 1, 1]
    kernel = params["params"]["backbone"]["conv1"]["kernel"]
    np.testing.assert_allclose(kernel, [[0.0, -0.5], [-1.0, -1.5]])


@pytest.mark.parametrize(
    ("scales", "message"),
    [
        ({"bakbone/*": 0.1}, "'bakbone/.' matches no parameter; there are backbone/conv1/bias"),
        ({"*": 0.0}, "no parameter is left to train"),
        ({"*": -0.1}, "cannot be multiplied by -0.1"),
        ({"*": float("nan")}, "cannot be multiplied by nan"),
    ],
)
def test_bad_patterns_and_factors_are_refused(scales, message):
    with pytest.raises(convnets.UserError, match=message):
        scale_rates(optax.sgd(0.1), scales).init(PARAMS)
