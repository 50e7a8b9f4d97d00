"""Objectives of one's own in `fit`: auto-encoders, chains, clusters; what they do not hear of."""

import dataclasses
import json
from functools import partial

import jax
import numpy as np
import pytest

import convnets
from convnets.errors import UserError
from convnets.layers import TiledConv
from convnets.unsupervised import (
    RBM,
    DenseAutoencoder,
    KMeans,
    LocalAutoencoder,
    LocalStage,
    ReconstructionICA,
    clustering_loss,
    contrastive_divergence_loss,
    local_reconstruction_loss,
    mask_pixels,
    reconstruction_ica_loss,
    reconstruction_loss,
)

from .small_runs import few_digits, fit


def other(model, *, normalization):
    return reconstruction_loss(model, normalization=normalization, sparsity=1.0)


def test_an_autoencoder_is_fitted_saved_and_resumed(tmp_path):
    options = {
        "objective": partial(reconstruction_loss, corrupt=mask_pixels),
        "workdir": str(tmp_path / "run"),
        "schedule": "constant",
        "steps": 4,
        "evaluate_every": 2,
        "model": DenseAutoencoder((16,)),
    }
    first = fit(**options)
    lines = [line for line in first.history if "test_loss" in line]
    assert [line["step"] for line in lines] == [2, 4]
    assert {"test_unexplained", "test_examples"} < lines[-1].keys()
    assert "test_accuracy" not in lines[-1]
    whole = fit(**options | {"workdir": None, "steps": 6})
    resumed = fit(**options | {"resume": True, "steps": 6})
    assert jax.tree.all(jax.tree.map(np.array_equal, resumed.state.params, whole.state.params))
    with pytest.raises(UserError, match="objective: 'reconstruction_loss' in the run"):
        fit(**options | {"resume": True, "steps": 8, "objective": other})
    assert "accuracy" not in repr(resumed)
    assert "unexplained" in repr(resumed)


def test_chains_and_centers_ride_in_the_state():
    machine = fit(RBM(5, "gaussian", chains=7), steps=2, objective=contrastive_divergence_loss)
    assert machine.state.batch_stats["chains"].shape == (7, 28, 28, 1)
    clusters = fit(KMeans(3), steps=2, objective=clustering_loss)
    assert clusters.state.batch_stats["counts"].sum() > 0


def test_tiled_filters_are_fitted():
    model = ReconstructionICA(TiledConv(2, 8, 4, period=2, use_bias=False))
    result = fit(model, steps=2, objective=partial(reconstruction_ica_loss, penalty=0.1))
    assert result.state.params["filters"]["kernel"].shape == (2, 2, 8, 8, 1, 2)
    assert "test_unexplained" in result.history[-1]


def test_local_filters_are_fitted():
    model = LocalAutoencoder((partial(LocalStage, features=2, filter_size=8, stride=4),))
    result = fit(model, steps=2, objective=local_reconstruction_loss)
    assert {"test_loss", "test_unexplained1"} < result.history[-1].keys()


def test_a_run_with_an_objective_is_opened_and_evaluated_again(tmp_path):
    machine, folder = RBM(5, "gaussian", chains=7), tmp_path / "run"
    result = fit(machine, steps=2, objective=contrastive_divergence_loss, workdir=str(folder))
    run = convnets.load_run(folder, model=machine)
    same = jax.tree.map(np.array_equal, run.state.variables(), result.state.variables())
    assert jax.tree.all(same)
    found = convnets.evaluate_run(run, few_digits(), objective=contrastive_divergence_loss)
    last = result.history[-1]
    assert found["test_loss"] == pytest.approx(last["test_loss"], rel=1e-6)
    assert found["test_unexplained"] == pytest.approx(last["test_unexplained"], rel=1e-6)
    with pytest.raises(UserError, match="minimized contrastive_divergence_loss: evaluate it with"):
        convnets.evaluate_run(run, few_digits())
    given = {"objective": contrastive_divergence_loss, "views": lambda x: x[None]}
    with pytest.raises(UserError, match="does not hear of views"):
        convnets.evaluate_run(run, few_digits(), **given)
    with pytest.raises(UserError, match="with a RBM of its own; open it there"):
        convnets.load_run(folder)


def test_the_best_on_validation_has_the_least_loss(tmp_path):
    result = fit(
        DenseAutoencoder((8,)),
        objective=reconstruction_loss,
        steps=6,
        evaluate_every=2,
        keep=9,
        workdir=str(tmp_path / "run"),
    )
    losses = {x["step"]: x["validation_loss"] for x in result.history if "validation_loss" in x}
    with convnets.Checkpoints(tmp_path / "run" / "checkpoints", read_only=True) as checkpoints:
        template = jax.eval_shape(lambda: result.state)
        step, _, _ = checkpoints.restore(template, "best")
    assert step == min(losses, key=losses.get)


def test_nothing_is_decided_by_free_energies(tmp_path):
    machine, objective = RBM(3, "gaussian"), partial(contrastive_divergence_loss, steps=2)
    for options in ({"early_stopping": 1}, {"schedule": "plateau"}):
        with pytest.raises(UserError, match="does not tell which of two states is"):
            fit(machine, objective=objective, **options)
    given = {"steps": 1, "workdir": str(tmp_path / "run")}
    line = fit(machine, objective=objective, **given).history[-1]
    assert {"test_loss", "validation_unexplained"} < line.keys()
    assert "validation_loss" not in line
    with pytest.raises(UserError, match="known to be the best"):
        convnets.load_run(tmp_path / "run", "best", model=machine)


@pytest.mark.parametrize(
    "options", [{"augment": ("flip",)}, {"label_smoothing": 0.1}, {"loss": "squared_error"}]
)
def test_what_an_objective_does_not_hear_of_is_refused(options):
    with pytest.raises(UserError, match=f"does not hear of {next(iter(options))}"):
        fit(DenseAutoencoder((4,)), steps=1, objective=reconstruction_loss, **options)


@pytest.mark.parametrize(
    ("model", "objective", "message"),
    [
        (RBM(5), contrastive_divergence_loss, r"binary machine .* to \[-0.53, 2.8\].*gaussian"),
        (DenseAutoencoder((5,)), partial(reconstruction_loss, error="cross_entropy"), "entropy"),
    ],
)
def test_what_takes_pixels_for_probabilities_gets_no_standardized_ones(model, objective, message):
    with pytest.raises(UserError, match=message):
        fit(model, steps=1, objective=objective)
    raw = dataclasses.replace(few_digits(), normalization=convnets.Normalization())
    assert int(fit(model, raw, steps=1, objective=objective).state.step) == 1


@pytest.mark.parametrize(
    "objective", [reconstruction_ica_loss, reconstruction_loss(DenseAutoencoder((8,)))]
)
def test_an_objective_that_takes_something_else_is_refused(objective):
    with pytest.raises(UserError, match="an objective takes"):
        fit(DenseAutoencoder((8,)), objective=objective)


class Objective:
    """An objective that is no function."""

    def __call__(self, model, *, normalization):
        return reconstruction_loss(model, normalization=normalization)


def test_an_objective_is_all_that_has_to_be_given(tmp_path):
    few, how = few_digits(), {"steps": 1, "progress": False, "workdir": tmp_path}
    convnets.fit(DenseAutoencoder((4,)), few, objective=Objective(), **how)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["augment"] == ["none"]
    assert config["objective"] == "Objective"


def test_a_model_without_logits_needs_an_objective():
    with pytest.raises(UserError, match="makes no logits: give fit an objective"):
        fit(DenseAutoencoder((4,)), steps=1)
