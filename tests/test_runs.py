"""Evaluation counts every example once; a run on disk gives what the one in memory gave."""

import json
import shutil
from functools import partial

import flax.linen as nn
import jax
import numpy as np
import pytest

import convnets
from convnets import ops
from convnets.layers import BatchNorm
from convnets.runs import with_batch_norm_groups
from convnets.training import journal

from .small_runs import (
    LINEAR,
    PLAIN,
    cross_entropy,
    few_digits,
    fit,
    images_of,
    plain_run,
)


@pytest.mark.parametrize("strategy", ["jit", "shard_map", "pmap"])
def test_evaluation_counts_every_example_once(strategy):
    state, source = plain_run().state, few_digits().test
    probabilities = convnets.predict(LINEAR, state, images_of(source))
    loss = cross_entropy(probabilities, source.labels).mean()
    accuracy = (probabilities.argmax(1) == source.labels).mean()
    loss_fn = convnets.classification_loss(LINEAR, normalization=few_digits().normalization)
    for devices in (1, 8):
        eval_step = convnets.parallel.compile(
            convnets.make_eval_step(loss_fn), strategy, devices=devices, donate=False
        )
        for batch_size in (1, 7, 64, len(source)):
            means = convnets.evaluate(
                eval_step, state, convnets.evaluation_batches(source, batch_size)
            )
            assert means["examples"] == len(source)
            assert means["accuracy"] == accuracy
            assert means["loss"] == pytest.approx(loss, rel=1e-6)


def test_a_run_on_disk_predicts_and_evaluates_as_the_one_in_memory(tmp_path):
    kept = {"workdir": str(tmp_path), "ema": 0.9}
    result = fit(identity={"model": "linear"}, **kept)
    run = convnets.load_run(tmp_path)
    images = images_of(few_digits().test)
    expected = convnets.predict(LINEAR, result.state, images)
    assert np.array_equal(convnets.predict(run.model, run.state, images), expected)
    for batch_size in (1, 7, 64, 50):
        measured = convnets.evaluate_run(run, few_digits(), batch_size=batch_size)
        line = {name: result.history[-1][name] for name in measured}
        assert measured["test_examples"] == 50
        assert measured == pytest.approx(line, rel=1e-6)


def test_predictions_are_averaged_over_views(tmp_path):
    result = fit(identity={"model": "linear"}, workdir=tmp_path)
    images, labels = images_of(few_digits().test), few_digits().test.labels
    mirrored = np.ascontiguousarray(images[:, :, ::-1])
    each = [convnets.predict(LINEAR, result.state, x) for x in (images, mirrored)]
    expected = np.mean(each, 0)
    found = convnets.predict(
        LINEAR, result.state, images, batch_size=32, views=ops.image.flip_views
    )
    np.testing.assert_allclose(found, expected, atol=1e-6)
    run = convnets.load_run(tmp_path)
    measured = convnets.evaluate_run(run, few_digits(), views=ops.image.flip_views)
    assert measured["test_loss"] == pytest.approx(cross_entropy(expected, labels).mean(), rel=1e-5)
    assert measured["test_accuracy"] == (expected.argmax(1) == labels).mean()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": {}}, "see its image_shape, class_names, normalization"),
        ({"model": None, "start": "0"}, "see its model, start"),
        ({"batch_size": 0}, "batch_size must be a whole number, at least 1"),
        ({"ema": "much"}, "ema must be in"),
        ({"precision": "float8"}, "did you mean"),
        ({"augment": 5}, "augment"),
        ([], "not the config of a run"),
    ],
)
def test_a_broken_config_is_refused(tmp_path, change, message):
    workdir = tmp_path / "run"
    fit(steps=1, workdir=str(workdir), **PLAIN)
    path = workdir / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | change if isinstance(change, dict) else change))
    with pytest.raises(convnets.UserError, match=message):
        convnets.load_run(workdir)
    with pytest.raises(convnets.UserError, match=message):
        fit(steps=1, workdir=str(workdir), resume=True, **PLAIN)


@pytest.mark.parametrize("line", ["{", "[1]", '{"epoch": 1}', '{"step": "2"}', "", "\0\1"])
def test_a_broken_line_is_named(tmp_path, line):
    workdir = tmp_path / "run"
    fit(steps=2, workdir=str(workdir), **PLAIN)
    path = workdir / "metrics.jsonl"
    whole = path.read_text()
    path.write_text(f"{line}\n{whole}")
    with pytest.raises(convnets.UserError, match=r"line 1 of .*metrics.jsonl is not a run's"):
        fit(steps=3, workdir=str(workdir), resume=True, **PLAIN)
    assert path.read_text() == f"{line}\n{whole}"


def test_checkpoints_that_are_gone_are_missed(tmp_path):
    workdir = tmp_path / "run"
    fit(steps=4, workdir=str(workdir), evaluate_every=1, **PLAIN)
    lines = (workdir / "metrics.jsonl").read_text()
    shutil.rmtree(workdir / "checkpoints")
    with pytest.raises(convnets.UserError, match="came to step 4, but .* holds no checkpoint"):
        fit(steps=5, workdir=str(workdir), resume=True, evaluate_every=1, **PLAIN)
    assert (workdir / "metrics.jsonl").read_text() == lines


@pytest.mark.parametrize("checkpoint_every", [None, 1])
def test_a_run_that_died_in_its_first_save_starts_from_its_beginning(tmp_path, checkpoint_every):
    """The line of the second save is there before it waits for the first; what a resumed run saves
    more often says nothing of the one before."""
    every = {"evaluate_every": 2, "checkpoint_every": 2}
    expected = fit(steps=4, workdir=str(tmp_path / "whole"), **every, **PLAIN)
    workdir = tmp_path / "run"
    fit(steps=4, workdir=str(workdir), **every, **PLAIN)
    shutil.rmtree(workdir / "checkpoints")
    every["checkpoint_every"] = checkpoint_every or 2
    found = fit(steps=4, workdir=str(workdir), resume=True, **every, **PLAIN)
    for a, b in zip(jax.tree.leaves(found.state), jax.tree.leaves(expected.state)):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_what_is_printed_of_a_run_is_short(tmp_path):
    result = fit(identity={"model": "linear"}, workdir=tmp_path)
    assert repr(result.state) == "TrainState(step 4, 7,850 parameters)"
    assert repr(result).startswith("Result(TrainState(step 4, 7,850 parameters), step 4")
    run = convnets.load_run(tmp_path)
    assert repr(run) == "Run(linear on digits, TrainState(step 4, 7,850 parameters))"


def test_one_process_at_a_time_trains_in_a_folder(tmp_path):
    workdir = tmp_path / "run"
    fit(workdir=workdir)
    another = pytest.raises(convnets.UserError, match="another process is training in")
    with journal.locked(workdir), another:
        fit(workdir=workdir, resume=True, steps=8)
    assert fit(workdir=workdir, resume=True, steps=8).state.step == 8


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.full((1, 28, 28, 1), 255.0), r"floats in \[0, 1\]; came float64 from 255.0"),
        (np.full((1, 28, 28, 1), np.nan), "floats in"),
        (np.zeros((28, 28, 1)), "expected images"),
        (np.zeros((2, 12, 12, 1)), r"images \(2, 12, 12, 1\) are not of the shape .*\(144, 10\)"),
    ],
)
def test_images_that_predict_would_take_for_others(images, message):
    with pytest.raises(ValueError, match=message):
        convnets.predict(LINEAR, plain_run().state, images)


@pytest.mark.parametrize("name", ["vgg11_bn", "mobilenet_v3_small", "googlenet"])
def test_groups_reach_every_batch_norm_of_a_model(name):
    """Those of auxiliary heads too."""
    sizes = []

    def note(call, args, kwargs, context):
        if isinstance(context.module, BatchNorm):
            sizes.append(context.module.group_size)
        return call(*args, **kwargs)

    model = with_batch_norm_groups(convnets.create_model(name), 4)
    images = jax.ShapeDtypeStruct((1, 224, 224, 3), np.float32)
    with nn.intercept_methods(note):
        shapes = jax.eval_shape(partial(model.init, train=False), jax.random.key(0), images)
    assert sizes == [4] * len(sizes)
    assert 2 * len(sizes) == len(jax.tree.leaves(shapes["batch_stats"]))
    assert with_batch_norm_groups(model, None) is model
