"""A run whose parameters are sharded: the numbers of one device, and on to any other mesh."""

import flax.linen as nn
import jax
import numpy as np
import pytest

import convnets
from convnets import parallel
from convnets.layers import Conv, Dense

from . import shell
from .small_runs import column, few_digits, fit, images_of


class Wide(nn.Module):
    """A layer that is large enough to be sharded, behind maps that are cut."""

    @nn.compact
    def __call__(self, images, *, train: bool):
        x = nn.relu(Conv(1, 3, name="conv")(images))
        x = nn.relu(Dense(1024, name="wide")(x.reshape(len(x), -1)))
        return Dense(10, name="head")(x)


SETTINGS = {
    "optimizer": "momentum",
    "learning_rate": 0.05,
    "ema": 0.5,
    "recompute_statistics": None,
}


def assert_close(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected)):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def whole():
    return fit(Wide(), **SETTINGS)


def test_a_run_goes_on_with_any_other_mesh(whole, tmp_path):
    """On 2 x 4 devices, from there on one, from there on 4 x 2; and it is opened as any other."""
    meshes = [{"devices": 8, "model_parallel": 4, "shard_optimizer": True}, {"devices": 1}]
    meshes += [{"devices": 8, "model_parallel": 2}]
    for number, mesh in enumerate(meshes):
        options = {"steps": 2 + number, "workdir": tmp_path / "run", "evaluate_every": 1}
        options |= {"schedule": "constant", "resume": number > 0}
        result = fit(Wide(), **(SETTINGS | options | mesh))
    expected = fit(Wide(), **SETTINGS, steps=4, schedule="constant")
    assert_close(result.state, expected.state)
    run = convnets.load_run(tmp_path / "run", model=Wide())
    measured = convnets.evaluate_run(run, few_digits())
    last = column(expected, "test_loss")[-1]
    assert measured["test_loss"] == pytest.approx(last, abs=1e-5)


def test_a_mesh_and_rules_are_taken_and_a_placed_state_predicts(whole, monkeypatch):
    placed = []
    gather = parallel.gather
    monkeypatch.setattr(parallel, "gather", lambda state: placed.append(state) or gather(state))
    mesh, rules = parallel.create_mesh(8, model=2), [("head/kernel", ("model",))]
    result = fit(Wide(), **SETTINGS, mesh=mesh, rules=rules, devices=None)
    assert_close(result.state, whole.state)
    params = placed[-1].params
    shapes = [params[name]["kernel"].addressable_shards[0].data.shape for name in ("wide", "head")]
    assert shapes == [(784, 512), (512, 10)]
    images = images_of(few_digits().test)[:6]
    expected = convnets.predict(Wide(), whole.state, images)
    assert_close(convnets.predict(Wide(), placed[-1], images), expected)


def test_the_shell_names_what_does_not_fit(capsys):
    message = shell.refused(capsys, "train", "--model-parallel", "3")
    assert "8 devices do not divide into models over 3" in message
    message = shell.refused(capsys, "train", "--model-parallel", "2", "--parallel", "pmap")
    assert "pmap has the whole state on every device" in message
