"""The recipe: stages without labels on what the stages below make, a classifier, all together."""

import dataclasses
import os
import shutil
import signal
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import convnets
from convnets.errors import UserError
from convnets.layers import BatchNorm, Conv, Dense, relu, sigmoid
from convnets.models import MLP, Classifier
from convnets.recipe import MODES
from convnets.training import journal
from convnets.unsupervised import (
    RBM,
    DeconvolutionalNetwork,
    DenseAutoencoder,
    KMeans,
    clustering_loss,
    contrastive_divergence_loss,
    reconstruction_loss,
    whiten_patches,
)

from .small_runs import assert_same_bits, few_digits

MODEL = Classifier(MLP((12, 8), activation=sigmoid), num_classes=10)
STAGES = (
    convnets.PretrainingStage(RBM(12, "gaussian"), contrastive_divergence_loss, "dense1"),
    convnets.PretrainingStage(
        DenseAutoencoder((8,)), reconstruction_loss, "dense2", below="dense1"
    ),
)
SMALL = {
    "steps": 3,
    "batch_size": 24,
    "devices": 1,
    "augment": (),
    "progress": False,
    "evaluate_every": 3,
}


def pretrain(mode, stages=STAGES, **options):
    return convnets.pretrain(MODEL, few_digits(), stages, mode, **SMALL | options)


@pytest.fixture(scope="module")
def whole():
    return pretrain("fine_tune", seed=3)


def test_modes_go_one_further_each(whole):
    names = ["stage1", "stage2", "classifier", "fine_tuning"]
    assert list(whole.results) == names
    assert MODES == ("features", "stack", "classifier", "fine_tune")
    first = pretrain("features", seed=3)
    assert list(first.results) == names[:1]
    machine = whole.results["stage1"].state.params
    layers = first.variables["params"]["backbone"]
    assert np.array_equal(layers["dense1"]["kernel"], machine["kernel"])
    assert np.array_equal(layers["dense1"]["bias"], machine["hidden_bias"])
    fresh = jax.jit(MODEL.init, static_argnames="train")(
        jax.random.key(3), jnp.zeros((1, 28, 28, 1)), train=False
    )
    untouched = fresh["params"]["backbone"]["dense2"]["kernel"]
    assert np.array_equal(layers["dense2"]["kernel"], untouched)


def test_a_stage_learns_from_what_the_stage_below_makes(whole):
    """The same evaluation by hand: what the first machine makes of images, the learner's loss."""
    machine = whole.results["stage1"].state.params
    digits = few_digits()

    def features(source):
        images = convnets.prepare(source.images, digits.normalization)
        return sigmoid(images.reshape(-1, 784) @ machine["kernel"] + machine["hidden_bias"][None])

    found = whole.results["stage2"].history[-1]["test_unexplained"]
    loss_fn = reconstruction_loss(DenseAutoencoder((8,)))
    variables = whole.results["stage2"].state.variables()
    batch = {"image": features(digits.test)[:, None, None, :]}
    _, (_, measured) = loss_fn(variables["params"], {}, batch, None)
    total, count = measured["unexplained"]
    assert found == pytest.approx(float(total / count), rel=1e-4)
    layer = whole.results["stage2"].state.params["encoder1"]
    held = whole.results["classifier"].state.params["backbone"]["dense2"]
    assert_same_bits(jax.tree.map(np.asarray, dict(held)), jax.tree.map(np.asarray, dict(layer)))


def test_the_backbone_is_held_under_the_classifier_and_tuned_at_last(whole):
    classifier, tuned = (whole.results[name].state.params for name in ("classifier", "fine_tuning"))
    machine = whole.results["stage1"].state.params
    assert np.array_equal(classifier["backbone"]["dense1"]["kernel"], machine["kernel"])
    assert (classifier["head"]["kernel"] != tuned["head"]["kernel"]).any()
    assert (
        classifier["backbone"]["dense1"]["kernel"] != tuned["backbone"]["dense1"]["kernel"]
    ).any()
    assert_same_bits(tuned, whole.variables["params"])
    probabilities = convnets.predict(
        whole.model, whole.results["fine_tuning"].state, few_digits().test.images[:3]
    )
    assert probabilities.shape == (3, 10)


def test_what_broke_off_goes_on_to_the_same_bits(whole, tmp_path):
    pretrain("stack", seed=3, workdir=tmp_path)
    resumed = pretrain("fine_tune", seed=3, workdir=tmp_path, resume=True)
    assert_same_bits(resumed.variables["params"], whole.variables["params"])
    shutil.rmtree(tmp_path / "fine_tuning" / "checkpoints")
    again = pretrain("fine_tune", seed=3, workdir=tmp_path, resume=True)
    assert_same_bits(again.variables["params"], whole.variables["params"])


def test_a_signal_ends_the_recipe_and_resuming_ends_at_the_same_bits(whole, tmp_path):
    sent = tmp_path / "sent"

    def interrupted_once(model, *, normalization):
        loss_fn = contrastive_divergence_loss(model, normalization=normalization)

        def stopping(*given):
            if not sent.exists():
                sent.touch()
                os.kill(os.getpid(), signal.SIGTERM)
            return loss_fn(*given)

        return stopping

    how = {"stages": (STAGES[0]._replace(objective=interrupted_once), STAGES[1]), "seed": 3}
    stopped = pretrain("fine_tune", workdir=tmp_path, **how)
    assert list(stopped.results) == ["stage1"]
    assert stopped.results["stage1"].signal == signal.SIGTERM
    resumed = pretrain("fine_tune", workdir=tmp_path, resume=True, **how)
    assert list(resumed.results) == list(whole.results)
    assert_same_bits(resumed.variables["params"], whole.variables["params"])


@pytest.mark.parametrize(
    "change",
    [
        {"standardize": 10},
        {"objective": partial(contrastive_divergence_loss, steps=2)},
        {"learner": RBM(12, "gaussian", chains=3)},
    ],
)
def test_a_recipe_is_resumed_as_it_was_only(tmp_path, change):
    pretrain("features", seed=3, workdir=tmp_path)
    other = (STAGES[0]._replace(**change), *STAGES[1:])
    with pytest.raises(UserError, match="recipe"):
        pretrain("features", stages=other, seed=3, workdir=tmp_path, resume=True)


def test_a_finished_recipe_stays_as_it_is(tmp_path):
    few = few_digits()
    labels = [convnets.data.keep_per_class(few, 3, seed=seed) for seed in (0, 9)]
    how = {"seed": 3, "workdir": tmp_path}
    first = pretrain("classifier", labeled=labels[0], **how)
    with pytest.raises(UserError, match="stage1 is finished, and stage2 began from its end"):
        pretrain("classifier", labeled=labels[0], **how, resume=True, steps=5)
    with pytest.raises(UserError, match=r"images\.labels"):
        pretrain("classifier", labeled=labels[1], **how, resume=True)
    again = pretrain("classifier", labeled=labels[0], **how, resume=True)
    assert_same_bits(again.variables["params"], first.variables["params"])


def test_a_training_of_another_process_is_left_alone(tmp_path):
    folder = tmp_path / "stage1"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    with journal.locked(folder), pytest.raises(UserError, match="another process is training"):
        pretrain("features", workdir=tmp_path, resume=True)
    assert (folder / "config.json").exists()


def test_resuming_needs_a_workdir():
    with pytest.raises(UserError, match="resume needs the workdir"):
        pretrain("features", resume=True)


def test_nothing_is_trained_before_all_stages_fit(tmp_path):
    stages = (STAGES[0], STAGES[1]._replace(learner=DenseAutoencoder((9,))))
    with pytest.raises(UserError, match=r"stage 2: backbone/dense2/bias is \(8,\)"):
        pretrain("stack", stages=stages, workdir=tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_is_frozen_is_of_the_model_and_beside_its_backbone():
    frozen = pretrain("classifier", freeze="head/bias", seed=3)
    bias = frozen.variables["params"]["head"]["bias"]
    assert not np.asarray(bias).any()


def test_later_trainings_are_not_resumed_from_other_layers_nor_foreign_folders_emptied(tmp_path):
    pretrain("stack", seed=3, workdir=tmp_path)
    for name in ("stage1", "stage2"):
        (tmp_path / name).rename(tmp_path / f"old_{name}")
    longer = (STAGES[0]._replace(options={"steps": 5}), *STAGES[1:])
    pretrain("features", stages=longer, seed=3, workdir=tmp_path)
    (tmp_path / "old_stage2").rename(tmp_path / "stage2")
    with pytest.raises(UserError, match="begins_from"):
        pretrain("stack", stages=longer, seed=3, workdir=tmp_path, resume=True)
    foreign = tmp_path / "foreign" / "stage1"
    foreign.mkdir(parents=True)
    for name in ("config.json", "thesis.txt"):
        (foreign / name).write_text("{}")
    with pytest.raises(UserError, match=r"holds thesis\.txt"):
        pretrain("features", seed=3, workdir=tmp_path / "foreign", resume=True)
    assert (foreign / "thesis.txt").exists()


class Normalized(MLP):
    """One dense layer and batch norm."""

    def setup(self):
        self.dense1, self.norm = Dense(12), BatchNorm()

    def __call__(self, images, *, train):
        x = self.dense1(images.reshape(len(images), -1))
        return {"dense1": relu(self.norm(x, train=train))}


def test_statistics_are_held_with_the_backbone_and_options_go_where_they_are_heard():
    found = convnets.pretrain(
        Classifier(Normalized(), num_classes=10),
        few_digits(),
        STAGES[:1],
        **SMALL | {"steps": 1, "label_smoothing": 0.1, "recompute_statistics": 1},
    )
    held, tuned = (
        found.results[name].state.batch_stats["backbone"]["norm"]["mean"]
        for name in ("classifier", "fine_tuning")
    )
    assert not held.any()
    assert tuned.any()


def test_stages_do_not_look_at_labels():
    digits = few_digits()
    others = dataclasses.replace(digits.train, labels=digits.train.labels[::-1])
    assert (others.labels != digits.train.labels).mean() > 0.5
    one, other = (
        convnets.pretrain(MODEL, data, STAGES, "features", **SMALL | {"steps": 1}).variables
        for data in (digits, dataclasses.replace(digits, train=others))
    )
    assert_same_bits(one["params"], other["params"])


class Convolved(MLP):
    """One convolution."""

    def setup(self):
        self.conv = Conv(6, 5, padding=0, use_bias=False)

    def __call__(self, images, *, train):
        return {"conv": relu(self.conv(images))}


def test_centers_of_white_patches_become_filters_at_one_scale():
    stage = convnets.PretrainingStage(
        KMeans(6), clustering_loss, "conv", patch=5, patches=2, whiten=0.5, standardize=20
    )
    model = Classifier(Convolved(), num_classes=10)
    found = convnets.pretrain(model, few_digits(), [stage], "classifier", **SMALL)
    kernel = np.asarray(found.variables["params"]["backbone"]["conv"]["kernel"])
    digits = few_digits()
    patches = convnets.data.sample_patches(digits, 5, 2)
    _, whitening = whiten_patches(patches, 0.5)
    centers = found.results["stage1"].state.batch_stats["centers"]
    filters = whitening.matrix @ np.asarray(centers - centers.mean(1, keepdims=True)).T
    filters -= filters.mean(0)
    for number in range(6):
        one, other = kernel[..., number].ravel(), filters[:, number]
        assert one @ other / np.linalg.norm(one) / np.linalg.norm(other) > 0.9999
    images = convnets.prepare(digits.train.images[:20], digits.normalization)
    inputs = Conv(6, 5, padding=0, use_bias=False).apply({"params": {"kernel": kernel}}, images)
    assert np.allclose(inputs.std((0, 1, 2)), 1, atol=1e-4)


def test_the_recipe_goes_on_from_an_earlier_stack(whole):
    stack = pretrain("stack", seed=3)
    found = convnets.pretrain(MODEL, few_digits(), (), variables=stack.variables, seed=3, **SMALL)
    assert list(found.results) == ["classifier", "fine_tuning"]
    assert_same_bits(found.variables["params"], whole.variables["params"])


def test_labels_are_those_that_are_given():
    few = few_digits()
    labeled = dataclasses.replace(few, train=few.train.select(np.arange(30)))
    found = pretrain("classifier", labeled=labeled, classifier={"epochs": 1, "steps": None})
    assert int(found.results["classifier"].state.step) == 2
    assert int(found.results["stage1"].state.step) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mode": "stacks"}, "unknown mode 'stacks'; did you mean 'stack'"),
        ({"stages": ()}, "at least one stage"),
        ({"model": RBM(3)}, "RBM has no backbone"),
        ({"stages": [STAGES[1]._replace(below="dense9")]}, "stage 1: unknown endpoint 'dense9'"),
        ({"stages": ["dense1"]}, "a list of PretrainingStage, came str"),
        ({"stages": [STAGES[0]._replace(learner=DeconvolutionalNetwork((4,)))]}, "a convert of"),
        ({"stages": (STAGES[0], STAGES[1]._replace(layer="dense9"))}, "stage 2: unknown layer"),
        ({"stages": [STAGES[0]._replace(layer="dense9")]}, "unknown layer 'dense9'"),
        ({"stages": [STAGES[0]._replace(layer="dense2")]}, r"dense2/bias is \(8,\)"),
        ({"stages": [STAGES[0]._replace(patch=29)]}, "patches of 1 to 28 pixels"),
        ({"stages": [STAGES[0]._replace(whiten=-1.0)]}, "whiten is an epsilon"),
        ({"stages": [STAGES[0]._replace(whiten="zca")]}, "whiten is an epsilon"),
        ({"stages": [STAGES[0]._replace(standardize=-1)]}, "standardize is a number of images"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    given = {"model": MODEL, "stages": STAGES[:1], "mode": "stack"} | change
    with pytest.raises(convnets.UserError, match=message):
        convnets.pretrain(
            given["model"], few_digits(), given["stages"], given["mode"], **SMALL | {"steps": 1}
        )


def test_partials_are_objectives_too():
    stage = STAGES[0]._replace(
        learner=DenseAutoencoder((12,)), objective=partial(reconstruction_loss, sparsity=0.1)
    )
    found = convnets.pretrain(MODEL, few_digits(), [stage], "features", **SMALL | {"steps": 1})
    assert list(found.results) == ["stage1"]
