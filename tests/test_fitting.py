"""`fit` and `predict` on a few real digits, mostly with the linear model, for a few steps."""

import itertools
import signal
import time

import jax
import numpy as np
import pytest
from PIL import Image

import convnets
from convnets.data import batch_indices
from convnets.training import journal, loop, optimizers, reporting

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


@pytest.mark.parametrize("name", sorted(optimizers.OPTIMIZERS))
def test_the_loss_falls_with_every_optimizer(name):
    rate = optimizers.default_learning_rate(name)
    rate = rate if name == "lars" else min(0.01, rate)  # whose rates are of another kind
    result = fit(optimizer=name, learning_rate=rate, steps=10, evaluate_every=10)
    losses = column(result, "train_loss")
    assert np.mean(losses[-3:]) < np.mean(losses[:3]) - 0.2


def test_lenet_learns_the_digits_with_augmentation():
    dataset = convnets.load_dataset("digits")
    model = convnets.create_model("lenet1", num_classes=10)
    options = {"augment": ("translate",), "batch_size": 64, "learning_rate": 0.01}
    result = fit(model, dataset, steps=60, evaluate_every=60, **options)
    assert result.history[-1]["test_accuracy"] > 0.8
    assert result.history[-1]["test_examples"] == len(dataset.test)


def test_lines_say_what_happened_when():
    result = fit(epochs=1.5, evaluate_every=5, log_every=3, learning_rate=0.01)
    lines = result.history
    assert [line["step"] for line in lines if "train_loss" in line] == [3, 6, 8]
    assert [line["step"] for line in lines if "test_loss" in line] == [5, 8]
    assert int(result.state.step) == 8  # 1.5 times 120 examples, 24 at a time
    for line in lines:
        assert line["epoch"] == pytest.approx(line["step"] * 24 / 120)
        if "test_loss" in line:
            assert (line["test_examples"], line["validation_examples"]) == (50, 40)
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(result.state))
    test = few_digits().test
    accuracy = (
        convnets.predict(LINEAR, result.state, images_of(test)).argmax(1) == test.labels
    ).mean()
    assert lines[-1]["test_accuracy"] == pytest.approx(accuracy)


def test_a_training_line_is_of_the_batches_since_the_last():
    """With a learning rate of nearly 0 every loss is that of the first parameters."""
    still = {"optimizer": "sgd", "learning_rate": 1e-30, "seed": 3}
    for smoothing in (0.0, 0.3):
        result = fit(steps=4, log_every=2, label_smoothing=smoothing, **still)
        for end, loss in zip((2, 4), column(result, "train_loss")):
            steps = range(end - 2, end)
            seen = np.concatenate([batch_indices(120, 24, step, seed=3) for step in steps])
            batch = few_digits().train.batch(seen)
            probabilities = convnets.predict(LINEAR, result.state, batch["image"])
            values = (1 - smoothing) * cross_entropy(probabilities, batch["label"])
            values -= smoothing * np.log(probabilities.astype(np.float64)).mean(1)
            assert loss == pytest.approx(values.mean(), rel=1e-5)


def test_the_seed_decides_every_bit():
    again = fit(**PLAIN)
    assert timeless(again.history) == timeless(plain_run().history)
    assert_same_bits(again.state, plain_run().state)
    still = PLAIN | {"steps": 1, "learning_rate": 1e-30}
    first, second = (fit(**(still | {"seed": seed})).state for seed in (1, 2))
    assert first.key.tolist() != second.key.tolist()
    kernels = [state.params["head"]["kernel"] for state in (first, second)]
    assert abs(np.corrcoef(*map(np.ravel, kernels))[0, 1]) < 0.1


def test_a_state_goes_on_from_its_step_and_stays_as_it_is():
    first = fit(steps=2, **PLAIN)
    before = jax.tree.map(np.copy, first.state)
    second = fit(steps=2, state=first.state, **PLAIN)
    assert_same_bits(first.state, before)
    assert_same_bits(second.state, plain_run().state)
    assert [line["step"] for line in second.history] == [3, 4, 4]
    assert second.history[-1]["test_loss"] == plain_run().history[-1]["test_loss"]


def test_a_run_of_several_steps_a_call_goes_on_bit_for_bit(tmp_path, monkeypatch):
    """It is stopped within its second call, and resumed without a word on its calls."""
    options = {"model": Small(), "steps": 16, "seed": 1, "devices": 2, "schedule": "constant"}
    options |= {"log_every": 5, "evaluate_every": 8, "checkpoint_every": 8, "ema": 0.9}
    expected = fit(steps_per_call=3, **options)
    add = reporting.Meter.add

    def add_and_stop(meter, number, measured):
        add(meter, number, measured)
        if number == 5:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(reporting.Meter, "add", add_and_stop)
        stopped = fit(steps_per_call=3, workdir=tmp_path / "run", **options)
    assert (int(stopped.state.step), stopped.signal) == (5, signal.SIGTERM)
    resumed = fit(resume=True, workdir=tmp_path / "run", **options)
    assert_same_bits(resumed.state, expected.state)
    assert timeless(resumed.history) == timeless(expected.history)
    with pytest.raises(convnets.UserError, match="steps_per_call: 3 in the run, 1 now"):
        fit(resume=True, workdir=tmp_path / "run", steps_per_call=1, **options)


def test_nothing_is_left_to_do_for_a_finished_run():
    result = fit(steps=0, state=plain_run().state, **PLAIN)
    assert_same_bits(result.state, plain_run().state)
    assert result.history[-1]["test_loss"] == plain_run().history[-1]["test_loss"]


def test_plain_lines_where_there_is_no_terminal(capsys):
    fit(progress=True)
    out, err = capsys.readouterr()
    lines = [line.split(",")[0] for line in out.splitlines()]
    assert lines[-5:] == ["step 1", "step 2", "step 3", "step 4", "step 4"]
    assert "of 50" in out.splitlines()[-1]
    assert err == ""


def test_every_compilation_gives_the_same_history():
    options = {"augment": ("translate",), "mix": "cutmix", "optimizer": "momentum"}
    options |= {"evaluate_every": 2}
    expected = fit(Small(), **options)
    for parallel in ("jit", "shard_map", "pmap"):
        result = fit(Small(), devices=6, parallel=parallel, **options)
        for line, other in zip(timeless(result.history), timeless(expected.history), strict=True):
            assert line == pytest.approx(other, rel=1e-5, abs=1e-5), parallel
        for a, b in zip(jax.tree.leaves(result.state), jax.tree.leaves(expected.state)):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5, err_msg=parallel)


def test_the_default_batch_suits_three_devices():
    result = fit(devices=3, batch_size=None, steps=1)
    assert result.history[0]["epoch"] == pytest.approx(66 / 120)
    assert result.history[-1]["test_examples"] == 50


def test_a_source_that_is_streamed_gives_the_bits_of_one_on_the_device(monkeypatch):
    monkeypatch.setattr("convnets.feeding.RESIDENT_BYTES", 0)
    monkeypatch.setattr("convnets.data.resident_batches", None)  # to be sure
    streamed = fit(**PLAIN)
    assert_same_bits(streamed.state, plain_run().state)
    assert timeless(streamed.history) == timeless(plain_run().history)


CROPPED = PLAIN | {"augment": ("random_resized_crop", "flip"), "batch_size": 8}


@pytest.fixture
def photos(tmp_path):
    """Twelve files of three sizes in two classes, and as many again to test on."""
    rng = np.random.default_rng(0)
    for number in range(24):
        split, name = ("train", "test")[number // 12], "ab"[number % 2]
        image = rng.integers(0, 256, (40 + 8 * (number % 3), 50, 3), np.uint8)
        path = tmp_path / "photos" / split / name / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return convnets.load_dataset(f"folder:{tmp_path / 'photos'}", image_size=16)


TWO = convnets.create_model("linear", num_classes=2)


def test_crops_of_files_are_what_is_trained_on(photos):
    """With a learning rate of nearly 0 the loss is that of the crops, by the first parameters."""
    still = CROPPED | {"learning_rate": 1e-30, "augment": "random_resized_crop", "steps": 1}
    result = fit(TWO, photos, **still)
    batch = next(
        convnets.batches(photos.train, 8, seed=1, crop=convnets.data.random_resized_crop)(0)
    )
    probabilities = convnets.predict(TWO, result.state, batch["image"])
    values = cross_entropy(probabilities, batch["label"])
    assert column(result, "train_loss") == [pytest.approx(values.mean(), rel=1e-5)]
    centers = photos.train.batch(batch_indices(12, 8, 0, seed=1))
    assert not np.array_equal(batch["image"], centers["image"])
    test = cross_entropy(
        convnets.predict(TWO, result.state, images_of(photos.test)), photos.test.labels
    )
    assert column(result, "test_loss") == [pytest.approx(test.mean(), rel=1e-5)]


def test_crops_of_a_resumed_run_and_of_workers_are_those_of_the_whole(photos, tmp_path):
    whole = fit(TWO, photos, steps=5, **CROPPED)
    other = fit(TWO, photos, steps=5, **CROPPED | {"augment": ("flip",)})
    assert column(whole, "train_loss") != column(other, "train_loss")
    workdir = tmp_path / "run"
    fit(TWO, photos, steps=2, workdir=workdir, **CROPPED)
    resumed = fit(TWO, photos, steps=5, workdir=workdir, resume=True, workers=1, **CROPPED)
    assert_same_bits(resumed.state, whole.state)
    assert column(resumed, "train_loss") == column(whole, "train_loss")


def test_crops_of_images_that_are_arrays():
    result = fit(augment=("random_resized_crop", "translate"), **PLAIN)
    assert column(result, "train_loss") != column(plain_run(), "train_loss")
    assert np.isfinite(column(result, "train_loss")).all()


def test_a_damaged_file_ends_the_run_in_one_message(photos, tmp_path):
    path = tmp_path / "photos" / "train" / "a" / "4.jpg"
    path.write_bytes(path.read_bytes()[:-100])
    for workers in (0, 1):
        with pytest.raises(convnets.UserError, match=r"a/4\.jpg is damaged, truncated"):
            fit(TWO, photos, steps=2, workers=workers, **CROPPED)


@pytest.mark.parametrize("slow", [True, False])
def test_the_share_of_time_that_the_loop_waits_for_data(monkeypatch, slow):
    def batches(source, batch_size, **options):
        def from_step(start):
            for step in itertools.count(start):
                time.sleep(0.1 if slow else 0)
                yield source.batch(batch_indices(len(source), batch_size, step))

        return from_step

    def advance(*given, advance=loop.advance, **options):
        for reached in advance(*given, **options):
            time.sleep(0 if slow else 0.1)  # a step as long as other data take
            yield reached

    monkeypatch.setattr("convnets.feeding.RESIDENT_BYTES", 0)
    monkeypatch.setattr("convnets.data.batches", batches)
    monkeypatch.setattr(loop, "advance", advance)
    shares = column(fit(steps=6, log_every=2, evaluate_every=6, **PLAIN), "data_wait")
    assert len(shares) == 3
    assert all(0 <= share <= 1 for share in shares)
    assert shares[1] > 0.7 if slow else shares[1] < 0.7


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_predictions_are_the_softmax_of_the_model(dtype):
    state = fit(Small(), ema=0.9).state
    digits = few_digits()
    images = images_of(digits.test, dtype)
    prepared = convnets.prepare(images, digits.normalization)
    expected = jax.nn.softmax(Small().apply(state.ema, prepared, train=False))
    for batch_size in (1, 7, 50, 1000):
        probabilities = convnets.predict(Small(), state, images, batch_size=batch_size)
        assert isinstance(probabilities, np.ndarray)
        np.testing.assert_allclose(probabilities, expected, rtol=1e-5, atol=1e-7)


def test_images_of_another_rank_are_refused():
    with pytest.raises(ValueError, match=r"came shape \(28, 28, 1\)"):
        convnets.predict(LINEAR, plain_run().state, np.zeros((28, 28, 1), np.uint8))


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_step():
    with pytest.raises(
        convnets.NotFiniteError, match=r"loss of step \d is (inf|nan); .*no checkpoint"
    ):
        fit(optimizer="sgd", learning_rate=1e30, loss="squared_error")

    def spoil(key, image):
        return image / 0

    with pytest.raises(convnets.NotFiniteError, match="loss of step 1 is nan"):
        fit(augment=spoil)


def test_a_last_update_that_diverges_is_said_and_not_saved(tmp_path):
    options = {"optimizer": "sgd", "schedule": "constant", "learning_rate": 1e38, "steps": 1}
    with pytest.raises(convnets.NotFiniteError, match="test loss after step 1 is nan; there is no"):
        fit(**options, workdir=tmp_path)
    (line,) = [line for line in journal.read_metrics(tmp_path) if "test_loss" in line]
    assert np.isnan(line["test_loss"])
