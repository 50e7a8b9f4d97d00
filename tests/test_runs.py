"""Evaluation counts every example once; a run on disk gives what the one in memory gave."""

import numpy as np
import pytest

import convnets

from .small_runs import (
    LINEAR,
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
