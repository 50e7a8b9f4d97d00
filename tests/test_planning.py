"""What each option of a run does to its numbers, and what is refused before it starts."""

import dataclasses
import shutil
from collections.abc import Callable
from types import SimpleNamespace

import flax.linen as nn
import jax
import numpy as np
import optax
import pytest

import convnets
from convnets.data import batch_indices
from convnets.layers import BatchNorm, Dense
from convnets.ops import image
from convnets.planning import _fill_in, make_plan
from convnets.training import journal
from convnets.training.options import TrainingOptions

from .small_runs import (
    LINEAR,
    PLAIN,
    Small,
    assert_same_bits,
    column,
    cross_entropy,
    few_digits,
    fit,
    images_of,
    plain_run,
    timeless,
)


def test_accumulation_is_a_larger_batch():
    whole = fit(steps=3, batch_size=48, **PLAIN)
    parts = fit(steps=6, accumulate=2, **PLAIN)
    for a, b in zip(jax.tree.leaves(parts.state.params), jax.tree.leaves(whole.state.params)):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert int(parts.state.step) == 6
    halves = np.reshape(column(parts, "train_loss"), (3, 2)).mean(1)
    np.testing.assert_allclose(halves, column(whole, "train_loss"), rtol=1e-5)


def test_several_steps_in_a_call_change_no_number():
    options = {"steps": 11, "ema": 0.9, "augment": ("translate",), "accumulate": 2, "log_every": 5}
    options |= {"evaluate_every": 6, "devices": 4} | PLAIN
    alone, several = (fit(Small(), steps_per_call=calls, **options) for calls in (1, 4))
    for a, b in zip(jax.tree.leaves(several.state), jax.tree.leaves(alone.state)):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    for a, b in zip(timeless(several.history), timeless(alone.history)):
        assert a == pytest.approx(b, rel=1e-5)


@pytest.mark.parametrize(("platform", "expected"), [("cpu", 1), ("gpu", 10), ("tpu", 10)])
def test_accelerators_run_several_steps_in_a_call(platform, expected):
    devices = np.array([SimpleNamespace(platform=platform)])
    mesh = SimpleNamespace(shape={"data": 1}, devices=devices)
    assert _fill_in(TrainingOptions(), 100, mesh).steps_per_call == expected
    assert _fill_in(TrainingOptions(steps_per_call=3), 100, mesh).steps_per_call == 3


def test_warmup_counts_steps_where_batches_are_accumulated():
    options = {"optimizer": "sgd", "learning_rate": 0.1}
    rates = column(fit(steps=7, accumulate=2, warmup=4, **options), "learning_rate")
    assert len(rates) == 8  # rounded up, for the last batch to count
    alone = column(fit(steps=4, warmup=2, **options), "learning_rate")
    np.testing.assert_allclose(rates[::2], alone)
    np.testing.assert_allclose(rates[::2], rates[1::2])
    np.testing.assert_allclose(rates[::2], [0.05, 0.1, 0.1, 0.05], rtol=1e-6)


def test_a_given_state_has_its_schedule_from_the_beginning():
    options = {"optimizer": "momentum", "learning_rate": 0.1, "warmup": 2, "steps": 5}
    first = fit(**options)
    again = fit(state=first.state, **options)
    assert column(again, "learning_rate") == column(first, "learning_rate")
    assert int(again.state.step) == 10


def test_clipping_bounds_the_first_step():
    start = fit(steps=1, learning_rate=1e-30, **PLAIN).state.params
    norms = []
    for clip in (None, 0.01):
        result = fit(steps=1, learning_rate=1.0, clip=clip, **PLAIN)
        moved = jax.tree.map(np.subtract, result.state.params, start)
        norms.append(float(optax.tree.norm(moved)))
    assert norms[0] > 0.1
    assert norms[1] == pytest.approx(0.01, rel=1e-3)


def test_moving_averages_follow_and_are_what_is_evaluated():
    start = fit(steps=1, learning_rate=1e-30, **PLAIN).state.params
    result = fit(steps=1, ema=0.9, **PLAIN)
    params, average = result.state.params, result.state.ema["params"]
    for old, new, mean in zip(*map(jax.tree.leaves, (start, params, average))):
        np.testing.assert_allclose(mean, 0.1 * old + 0.9 * new, rtol=1e-5, atol=1e-7)
    losses = []
    for state in (result.state, result.state.replace(ema=None)):
        probabilities = convnets.predict(LINEAR, state, images_of(few_digits().test))
        losses.append(cross_entropy(probabilities, few_digits().test.labels).mean())
    assert result.history[-1]["test_loss"] == pytest.approx(losses[0], rel=1e-6)
    assert abs(losses[0] / losses[1] - 1) > 1e-4


def test_bfloat16_computes_close_by_and_keeps_float32():
    model = convnets.create_model("lenet1", num_classes=10)
    results = [fit(model, precision=precision) for precision in ("bfloat16", "float32")]
    half, single = (np.array(column(result, "train_loss")) for result in results)
    np.testing.assert_allclose(half, single, rtol=0.02)
    assert (half != single).any()
    dtypes = {leaf.dtype for leaf in jax.tree.leaves(results[0].state.params)}
    assert dtypes == {np.dtype("float32")}


def test_augmentation_by_function_by_name_or_none():
    assert_same_bits(fit(augment=("none",), **PLAIN).state, plain_run().state)
    by_name = fit(augment=("flip", "translate"), **PLAIN)
    composed = image.compose(image.flip_horizontal, image.translate)
    assert_same_bits(by_name.state, fit(augment=composed, **PLAIN).state)
    assert column(by_name, "train_loss")[0] != column(plain_run(), "train_loss")[0]


def test_augmentation_is_for_training_alone():
    def blacken(key, image):
        return 0 * image

    result = fit(augment=blacken, steps=1, learning_rate=1e-30, **PLAIN)
    train, test = few_digits().train, few_digits().test
    batch = train.batch(batch_indices(120, 24, 0, seed=1))
    black = convnets.predict(LINEAR, result.state, 0 * batch["image"])
    seen = convnets.predict(LINEAR, result.state, images_of(test))
    losses = [cross_entropy(black, batch["label"]), cross_entropy(seen, test.labels)]
    for name, values in zip(("train_loss", "test_loss"), losses):
        assert column(result, name) == [pytest.approx(values.mean(), rel=1e-5)]


def test_squared_error_and_an_optimizer_of_ones_own():
    result = fit(loss="squared_error", optimizer=optax.sgd(1e-3), steps=10, evaluate_every=10)
    losses = column(result, "train_loss")
    assert losses[-1] < losses[0]
    assert set(column(result, "learning_rate")) == {None}


def test_what_only_python_can_hold_is_named_in_the_config_and_needed_to_go_on(tmp_path):
    own = {"optimizer": optax.sgd(1e-3), "augment": image.translate, "workdir": tmp_path / "run"}
    fit(steps=2, **own)
    config = journal.read_config(own["workdir"])
    assert config["augment"] == "<function>"
    assert config["optimizer"] == "<GradientTransformationExtraArgs>"
    assert fit(steps=4, resume=True, **own).state.step == 4
    with pytest.raises(convnets.UserError, match="optimizer"):
        fit(steps=6, resume=True, **own | {"optimizer": "sgd"})


def test_a_plateau_on_validation_lowers_the_learning_rate():
    """Nothing moves at such a rate: five evaluations without a fall after the first."""
    options = {"schedule": "plateau", "learning_rate": 1e-20, "optimizer": "sgd"}
    rates = column(fit(steps=8, evaluate_every=1, **options), "learning_rate")
    np.testing.assert_allclose(rates, [1e-20] * 6 + [1e-21] * 2, rtol=1e-5)
    without = dataclasses.replace(few_digits(), validation=None)
    with pytest.raises(convnets.UserError, match="plateau is seen on a validation split"):
        fit(dataset=without, **options)


class Normalized(nn.Module):
    """A network whose batch norm is made by its field `norm`, and which draws nothing."""

    norm: Callable = BatchNorm

    @nn.compact
    def __call__(self, images, *, train: bool):
        x = self.norm(name="norm")(images, train=train)
        return Dense(10, name="head")(nn.relu(x).reshape(len(x), -1))


def nn_batch_norm(name):
    """Flax's own, called as ours."""
    layer = nn.BatchNorm(name=name)
    return lambda x, *, train: layer(x, use_running_average=not train)


def test_groups_of_batch_norm_are_the_batches_that_are_accumulated():
    """The workers of Goyal et al. 2017, section 3, one after the other or at once."""
    parts = fit(Normalized(), steps=6, accumulate=2, **PLAIN)
    grouped, whole = (
        fit(Normalized(), steps=3, batch_size=48, batch_norm_group=group, **PLAIN)
        for group in (24, None)
    )
    params = [jax.tree.leaves(result.state.params) for result in (parts, grouped, whole)]
    for a, b in zip(*params[:2]):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert max(np.abs(a - b).max() for a, b in zip(params[0], params[2])) > 1e-4


def test_frozen_batch_norm_keeps_its_statistics_and_learns_all_else():
    before = fit(Normalized(), steps=1, **PLAIN).state
    after = fit(Normalized(), state=before, steps=2, freeze_batch_norm=True, **PLAIN).state
    assert_same_bits(after.batch_stats, before.batch_stats)
    for old, new in zip(jax.tree.leaves(before.params), jax.tree.leaves(after.params)):
        assert np.abs(old - new).max() > 1e-6
    result = fit(Normalized(), state=before, steps=1, learning_rate=1e-30, **PLAIN | FROZEN)
    batch = few_digits().train.batch(batch_indices(120, 24, 1, seed=1))
    probabilities = convnets.predict(Normalized(), before, batch["image"])  # as at test
    loss = cross_entropy(probabilities, batch["label"]).mean()
    assert column(result, "train_loss") == [pytest.approx(loss, rel=1e-5)]


FROZEN = {"freeze_batch_norm": True}


def test_statistics_are_recomputed_before_each_evaluation(monkeypatch):
    options = PLAIN | {"steps": 3, "evaluate_every": 3, "recompute_statistics": 2}
    result = fit(Normalized(), **options, ema=0.9, devices=4)
    batches = [few_digits().train.batch(batch_indices(120, 24, step, seed=1)) for step in range(2)]
    images = convnets.prepare(
        np.concatenate([batch["image"] for batch in batches]), few_digits().normalization
    )
    found = result.state.ema["batch_stats"]["norm"]
    np.testing.assert_allclose(found["mean"], np.float64(images).mean((0, 1, 2)), atol=1e-6)
    np.testing.assert_allclose(found["var"], np.float64(images).var((0, 1, 2)), rtol=1e-5)
    test = few_digits().test
    probabilities = convnets.predict(Normalized(), result.state, images_of(test))
    loss = cross_entropy(probabilities, test.labels).mean()
    assert column(result, "test_loss") == [pytest.approx(loss, rel=1e-5)]
    asked, batches = [], convnets.data.batches

    def note(*args, workers, **others):
        asked.append(workers)
        return batches(*args, workers=workers, **others)

    monkeypatch.setattr(convnets.data, "batches", note)
    options |= {"recompute_statistics": 99, "workers": 2}  # one pass, of 5 batches
    again = fit(Normalized(), **options)
    assert asked == [0]  # no processes for a few batches; digits themselves lie on the device
    images = convnets.prepare(images_of(few_digits().train), few_digits().normalization)
    found = again.state.batch_stats["norm"]
    np.testing.assert_allclose(found["var"], np.float64(images).var((0, 1, 2)), rtol=1e-5)


def test_a_checkpoint_between_evaluations_has_running_averages(tmp_path):
    """And the run goes on from it bit for bit."""
    options = PLAIN | {"steps": 4, "evaluate_every": 2, "recompute_statistics": 9}
    options |= {"workdir": tmp_path, "checkpoint_every": 1, "keep": 9}
    whole = fit(Normalized(), **options)
    states = [convnets.load_run(tmp_path, step, model=Normalized()).state for step in (2, 3, 4)]
    first, between, last = (state.batch_stats["norm"] for state in states)
    assert_same_bits(first, last)  # of the same batches, for nothing is learned before this layer
    assert not np.array_equal(between["mean"], last["mean"])
    shutil.rmtree(tmp_path / "checkpoints" / "4")
    again = fit(Normalized(), resume=True, **options)
    assert_same_bits(again.state, whole.state)
    assert column(again, "test_loss") == column(whole, "test_loss")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_norm_group": 7}, "a batch of 24 examples does not divide into groups of 7"),
        ({"model": Small(), "batch_norm_group": 6}, "Small has no field norm"),
        ({"model": LINEAR, "batch_norm_group": 6}, "no field norm that makes batch norms"),
        ({"model": LINEAR, **FROZEN}, "freeze_batch_norm is for models with convnets"),
        (
            {"model": Normalized(nn_batch_norm), **FROZEN},
            "for models with convnets.layers.BatchNorm",
        ),
        ({"recompute_statistics": 0}, "recompute_statistics must be a whole number, at least 1"),
        (FROZEN, "a fresh network has learned none: begin from weights"),
        ({"recompute_statistics": 2, **FROZEN}, "leave out recompute_statistics"),
        ({"early_stopping": 2, "dataset": None}, "early stopping is decided on a validation"),
    ],
)
def test_what_batch_norm_and_early_stopping_need(options, message):
    if "dataset" in options:
        options["dataset"] = dataclasses.replace(few_digits(), validation=None)
    with pytest.raises(convnets.UserError, match=message):
        fit(**{"model": Normalized()} | options)


def without_first_row(key, image):
    return image[1:]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": print}, "a name or an Optax transformation, not <built-in function"),
        ({"seed": None}, "seed must not be None"),
        ({"log_every": None}, "log_every must not be None"),
        ({"workdir": 5}, "the path of a folder, not 5"),
        ({"workdir": "w\udcff"}, "not a name in UTF-8"),
        ({"dataset": (1, 2)}, "expected a Dataset, came tuple; load_dataset reads one"),
        ({"model": "lenet5"}, "expected a flax.linen.Module, came str; create_model makes one"),
        ({"learning_rat": 0.1}, "unknown option 'learning_rat'; did you mean 'learning_rate'"),
        ({"optimizer": "nestrov"}, "unknown optimizer 'nestrov'; did you mean 'nesterov'"),
        ({"schedule": "cosin"}, "did you mean 'cosine'"),
        ({"augment": ("flop",)}, "unknown augmentation 'flop'; did you mean 'flip'"),
        ({"augment": ("random_crop",)}, "unknown augmentation 'random_crop'"),
        ({"augment": ("flip", "random_resized_crop")}, "images are decoded: name it first"),
        ({"augment": ("random_resized_crop",) * 2}, "name it first, and once"),
        ({"augment": ("pca_noise",)}, "color noise is for images of 3 channels, came 1"),
        ({"augment": without_first_row}, "images of 27x28x1 out of those of 28x28x1"),
        ({"mix": "mixupp"}, "unknown mix 'mixupp'; did you mean 'mixup'"),
        ({"mix": "cutmix", "devices": 8}, "each device has an even number, not 3"),
        ({"loss": "cross-entropy"}, "did you mean 'cross_entropy'"),
        ({"parallel": "pmapp"}, "did you mean 'pmap'"),
        ({"epochs": 1, "steps": 3}, "epochs or steps, not both: 1 and 3"),
        ({"batch_size": 121}, "batch size 121 is larger than .* 120 examples"),
        ({"batch_size": 0}, "batch_size must be a whole number, at least 1, not 0"),
        ({"steps_per_call": 0}, "steps_per_call must be a whole number, at least 1, not 0"),
        ({"batch_size": 20, "devices": 8}, "20 examples .* 8 devices; take 16 or 24"),
        ({"warmup": 4}, "warm-up of 4 steps does not fit a run of 4 steps"),
        ({"label_smoothing": 0.1, "loss": "squared_error"}, "not for squared_error"),
        ({"precision": "bfloat16"}, "Small has no dtype"),
        ({"resume": True}, "resume needs the workdir"),
        ({"freeze": "hed/*"}, "'hed/.' matches no parameter; there are head/bias, head/kernel"),
        ({"freeze": "*"}, "no parameter is left to train"),
        ({"freeze": 3}, "freeze takes patterns of paths, .* not 3"),
        ({"rate_scales": {"head/*": -1}}, "not negative and finite, .* not -1.0 by 'head/.'"),
        ({"rate_scales": 0.1}, "rate_scales takes factors by patterns, not 0.1"),
        ({"layer_decay": 1.5}, r"layer_decay must be in \(0, 1\], not 1.5"),
        ({"clip_adaptive": 0}, "clip_adaptive must be positive and finite, not 0"),
        ({"sam": -0.05}, "sam must be positive and finite, not -0.05"),
        ({"schedule": "one_cycle", "warmup": 1}, "one_cycle rises by itself"),
    ],
    ids=lambda x: x if isinstance(x, str) else "-".join(x),
)
def test_options_that_do_not_fit_are_refused(options, message):
    model = Small() if "precision" in options else LINEAR
    with pytest.raises(convnets.UserError, match=message):
        fit(**{"model": model} | options)


def test_another_number_of_classes_is_refused():
    with pytest.raises(convnets.UserError, match=r"digits has 10 classes; .* shape \(2, 7\)"):
        fit(convnets.create_model("linear", num_classes=7))


def test_a_state_of_other_settings_is_refused():
    state = plain_run().state
    mlp = convnets.create_model("mlp", num_classes=10, features=(4,))
    for options in ({"optimizer": "adam"}, {"ema": 0.9}, {"model": mlp}, {"accumulate": 2}):
        with pytest.raises(convnets.UserError, match="given state is of another"):
            fit(state=state, **(PLAIN | options))
    with pytest.raises(convnets.UserError, match=r"not used \['ema.params.head.bias'"):
        fit(state=fit(ema=0.9, **PLAIN).state, **PLAIN)


def test_a_state_without_normalization_takes_that_of_the_data():
    bare = plain_run().state.replace(normalization=None)
    result = fit(steps=1, state=bare, **PLAIN)
    test = few_digits().test
    values = cross_entropy(convnets.predict(LINEAR, result.state, images_of(test)), test.labels)
    assert result.history[-1]["test_loss"] == pytest.approx(values.mean(), rel=1e-5)


def test_an_optimizer_of_ones_own_takes_no_options_of_the_named():
    for option in (
        *({"clip": 1.0}, {"learning_rate": 0.1}, {"schedule": "step"}, {"accumulate": 2}),
        *({"freeze": "head/*"}, {"rate_scales": {"*": 0.5}}, {"layer_decay": 0.5}),
    ):
        with pytest.raises(convnets.UserError, match=f"brings its {next(iter(option))} along"):
            fit(optimizer=optax.sgd(0.1), **option)


def test_an_optimizer_that_searches_along_a_line_is_refused():
    with pytest.raises(convnets.UserError, match=r"minimize_lbfgs does .* 'value_fn'"):
        fit(optimizer=optax.lbfgs())


def test_no_step_at_all():
    result = fit(steps=0)
    assert int(result.state.step) == 0
    assert [line["test_examples"] for line in result.history] == [50]


def test_one_augmentation_needs_no_tuple():
    by_name = fit(augment="flip", **PLAIN)
    assert_same_bits(by_name.state, fit(augment=["flip"], **PLAIN).state)
    assert_same_bits(fit(augment="none", **PLAIN).state, plain_run().state)


def test_frozen_parameters_keep_every_bit_in_a_run():
    options = {"optimizer": "momentum", "weight_decay": 0.1, "ema": None, "sam": 0.1, "seed": 1}
    model = Small()
    start = fit(model, steps=0, **options)
    result = fit(model, freeze=("conv/*", "norm/scale"), clip_adaptive=0.1, **options)
    before, after = start.state.params, result.state.params
    assert_same_bits(after["conv"], before["conv"])
    assert_same_bits(after["norm"]["scale"], before["norm"]["scale"])
    assert (after["norm"]["bias"] != before["norm"]["bias"]).any()
    assert (after["head"]["kernel"] != before["head"]["kernel"]).all()


def test_rates_fall_by_layers_towards_the_first():
    """SGD's first step is proportional to the rate."""
    start = fit(Small(), steps=0, **PLAIN).state.params
    settings = {"steps": 1, "learning_rate": 0.1, **PLAIN}
    scaled = fit(Small(), layer_decay=0.5, rate_scales={"head/bias": 3}, **settings)
    whole, scaled = fit(Small(), **settings).state.params, scaled.state.params
    for module, name, factor in (
        ("conv", "kernel", 0.5),
        ("norm", "scale", 0.5),
        ("head", "kernel", 1.0),
        ("head", "bias", 3.0),
    ):
        old = start[module][name]
        expected = factor * (whole[module][name] - old)
        np.testing.assert_allclose(scaled[module][name] - old, expected, rtol=1e-3, atol=1e-7)


def test_a_run_is_resumed_under_the_options_of_its_optimizer(tmp_path):
    options = {"optimizer": "muon", "layer_decay": 0.5, "freeze": "conv/*", "sam": 0.1}
    options |= {"rate_scales": {"*/bias": 0.5}, "clip_value": 0.1, "clip_adaptive": 0.1}
    options |= {"schedule": "one_cycle", "steps": 6, "evaluate_every": 3}
    options["workdir"] = workdir = tmp_path / "run"
    whole = fit(Small(), **options)
    shutil.rmtree(workdir / "checkpoints" / "6")
    again = fit(Small(), resume=True, **options)
    assert [line["step"] for line in again.history] == [1, 2, 3, 3, 4, 5, 6, 6]
    assert_same_bits(again.state, whole.state)
    config = journal.read_config(workdir)
    assert (config["freeze"], config["rate_scales"]) == (["conv/*"], [["*/bias", 0.5]])
    with pytest.raises(convnets.UserError, match=r"freeze: \['conv/\*'\] in the run, \[\] now"):
        fit(Small(), resume=True, **options | {"freeze": ()})


def test_pairs_divide_over_the_devices_by_default():
    """Of a batch size that nobody gave every device has an even number for a mix."""
    digits = convnets.load_dataset("digits")
    plan = make_plan(LINEAR, digits, TrainingOptions(mix="mixup", devices=5))
    assert plan.options.batch_size == 70


def test_a_warm_up_longer_than_the_run_is_told_in_its_own_steps():
    options = TrainingOptions(warmup=3, accumulate=2, steps=4)
    with pytest.raises(convnets.UserError, match="of 3 steps leaves no update, of 2 steps each"):
        make_plan(LINEAR, convnets.load_dataset("digits"), options)


def test_none_is_no_augmentation_among_others():
    options = TrainingOptions(augment=("none", "flip"))
    with pytest.raises(convnets.UserError, match="none stands alone, not among none, flip"):
        make_plan(LINEAR, convnets.load_dataset("digits"), options)
