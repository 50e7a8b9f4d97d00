"""Jarrett's grid: a stage is filled with what its encoder computes, and what is archived bears out
what is claimed."""

import statistics

import jax
import numpy as np

from convnets.models.stages import Stage, StageSize
from convnets.unsupervised import PredictiveCoder, fill_layer

from .claims import load, read


def test_a_stage_computes_what_its_encoder_does():
    experiment = load("stages")
    rng = np.random.default_rng(0)
    patches = np.float32(rng.normal(size=(3, 5, 5, 1)))
    learner = PredictiveCoder(4, use_bias=False)
    codes, learned = learner.init_with_output(jax.random.key(0), patches, train=False)
    learned["params"]["gain"] = np.float32(rng.uniform(1, 2, 4))
    codes = learner.apply(learned, patches, train=False)["code"]
    stage = Stage(StageSize(4, 5, 1, 1), rectify=False, normalize=False)
    params = stage.init(jax.random.key(1), patches)["params"]
    filled = fill_layer({"stage1": params}, "stage1", experiment.filters_of(learner, learned))
    found = stage.apply({"params": filled["stage1"]}, patches)
    np.testing.assert_allclose(found[:, 0, 0], codes, atol=1e-5)


def test_claim():
    archive, experiment = read("stages")
    kinds = archive["settings"]["kinds"]
    means = {
        (kind, filters, way): statistics.mean(experiment.errors(archive, kind, filters, way))
        for kind in kinds
        for filters in experiment.FILTERS
        for way in experiment.WAYS
    }
    by_kind = [means[kind, "random", "held"] for kind in kinds]
    by_filters = [means[kind, "random", "held"] - means[kind, "learned", "held"] for kind in kinds]
    assert max(by_kind) - min(by_kind) > max(by_filters)
