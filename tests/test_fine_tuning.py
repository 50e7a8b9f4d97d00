"""Runs that begin from given variables, and what holds for those that begin from anything given."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import convnets
from convnets.training import journal

from .small_runs import (
    LINEAR,
    PLAIN,
    Small,
    assert_same_bits,
    column,
    few_digits,
    fit,
    plain_run,
    timeless,
)


def test_the_first_variables_make_the_same_run_and_stay_as_they_are():
    variables = fit(steps=0, **PLAIN).state.variables()
    given = jax.tree.map(jnp.asarray, variables)
    result = fit(variables=given, **PLAIN)
    assert_same_bits(result.state, plain_run().state)
    assert timeless(result.history) == timeless(plain_run().history)
    assert_same_bits(jax.tree.map(np.asarray, given), variables)


def test_a_trained_network_is_tuned_by_another_optimizer_with_parts_of_it_frozen():
    plain = fit(Small(), steps=2, ema=0.5, **PLAIN).state
    given = plain.variables()
    options = {"optimizer": "adam", "freeze": "conv/*", "freeze_batch_norm": True, "ema": 0.9}
    tuned = fit(Small(), variables=given, **options).state
    assert int(tuned.step) == 4
    assert_same_bits(tuned.params["conv"], given["params"]["conv"])
    assert_same_bits(tuned.batch_stats, given["batch_stats"])
    assert (tuned.params["head"]["kernel"] != given["params"]["head"]["kernel"]).any()
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), given)
    state = fit(Small(), variables=half, steps=0).state
    assert_same_bits(state.params, jax.tree.map(np.float32, half["params"]))


def test_a_search_for_the_learning_rate_starts_from_variables():
    variables, options = plain_run().state.variables(), {"optimizer": "sgd", "seed": 1}
    options |= {"batch_size": 24, "augment": (), "devices": 1, "steps": 2}
    finding = convnets.find_learning_rate(LINEAR, few_digits(), variables=variables, **options)
    result = fit(variables=variables, **PLAIN | {"steps": 1})
    assert finding.losses[0] == pytest.approx(column(result, "train_loss")[0], rel=1e-6)
    assert abs(finding.losses[0] - column(plain_run(), "train_loss")[0]) > 0.01


def test_statistics_are_frozen_in_what_was_given_and_in_a_run_that_goes_on(tmp_path):
    frozen = {"freeze_batch_norm": True, "steps": 1, "workdir": tmp_path / "run"}
    with pytest.raises(convnets.UserError, match="a fresh network has learned none"):
        convnets.find_learning_rate(Small(), few_digits(), freeze_batch_norm=True)
    with pytest.raises(convnets.UserError, match="a fresh network has learned none"):
        fit(Small(), **frozen)
    assert not frozen["workdir"].exists()
    variables = fit(Small(), steps=0).state.variables()
    fit(Small(), variables=variables, **frozen)
    result = fit(Small(), resume=True, **frozen | {"steps": 2})
    assert int(result.state.step) == 2
    assert_same_bits(result.state.batch_stats, variables["batch_stats"])


KERNEL, BIAS = np.zeros((784, 10), np.float32), np.zeros(10, np.float32)
HEAD = {"kernel": KERNEL, "bias": BIAS}


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"params": {"head": {"kernel": KERNEL}}}, "variables: missing params/head/bias$"),
        ({"params": {"head": HEAD, "b": BIAS}}, "variables: left over params/b$"),
        ({"head": HEAD}, "missing params/head/bias, params/head/kernel; left over head/bias"),
        ({"params": {"head": HEAD}, "batch_stats": {"mean": BIAS}}, "left over batch_stats/mean"),
        (
            {"params": {"head": HEAD | {"kernel": KERNEL[:, :3], "bias": BIAS[:3]}}},
            r"floats params/head/bias \(10,\) \(came float32 \(3,\)\), params/head/kernel "
            r"\(784, 10\) \(came float32 \(784, 3\)\); for other classes see",
        ),
        ({"params": {"head": HEAD | {"bias": np.arange(10)}}}, "head/bias .*came int64"),
        ([KERNEL], "must be {'params': …, 'batch_stats': …}, .* not list"),
    ],
)
def test_variables_of_another_model_are_refused_by_path(tmp_path, variables, message):
    workdir = tmp_path / "run"
    with pytest.raises(convnets.UserError, match=message):
        fit(variables=variables, workdir=workdir, **PLAIN)
    assert not workdir.exists()


def test_a_run_begins_from_one_thing():
    variables = {"params": {"head": HEAD}}
    with pytest.raises(convnets.UserError, match="a state to go on from or variables to begin"):
        fit(state=plain_run().state, variables=variables)
    with pytest.raises(convnets.UserError, match="its variables to begin with or resume it, not b"):
        fit(variables=variables, resume=True, workdir="run")


@pytest.mark.parametrize("origin", ["variables", "state"])
def test_what_was_given_is_needed_again_where_no_checkpoint_holds_it(tmp_path, origin):
    """A state of step 0 too."""
    state = plain_run().state.replace(step=np.int32(0))
    given = {"state": state, "variables": state.variables()}
    options = PLAIN | {"workdir": tmp_path, "steps": 2, "evaluate_every": 1}
    whole = fit(**{origin: given[origin]}, **options)
    assert journal.read_config(tmp_path)["origin"] == origin
    shutil.rmtree(tmp_path / "checkpoints" / "2")
    assert_same_bits(fit(resume=True, **options).state, whole.state)
    assert journal.read_config(tmp_path)["origin"] == origin
    shutil.rmtree(tmp_path / "checkpoints")
    (tmp_path / "metrics.jsonl").unlink()
    with pytest.raises(convnets.UserError, match=f"no checkpoint, .* from the {origin} that it w"):
        fit(resume=True, **options)
    config = journal.read_config(tmp_path)
    del config["origin"]  # as older runs have none
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert_same_bits(fit(resume=True, **options).state, fit(**PLAIN | {"steps": 2}).state)


def test_a_state_of_another_accumulation_is_refused():
    state = fit(steps=4, accumulate=2, **PLAIN).state
    fit(state=state, steps=2, accumulate=2, **PLAIN)
    with pytest.raises(convnets.UserError, match="made 2 updates in 4 steps, where accumulate 4 m"):
        fit(state=state, steps=4, accumulate=4, **PLAIN)
