"""The command line as a user meets it: what it prints, and what it refuses in one message."""

import json
import os
import signal
import subprocess
import time
from functools import partial

import cv2
import jax
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict

import convnets
from convnets import cli
from convnets.fitting import Result
from convnets.requirements import read_variables
from convnets.training import journal
from convnets.weights import export_torch, write_safetensors
from convnets.weights.importing import variable_shapes

from . import shell
from .shell import call, refused

BENCHMARK = ["benchmark", "--model", "lenet5"]
QUICK = ["--model", "linear", "--steps", "4", "--evaluate-every", "4"]


def save_npz(path, side=9):
    """A data set of 12 images in three classes."""
    images = np.random.default_rng(0).integers(0, 256, (12, side, side), np.uint8)
    labels = np.arange(12) % 3
    np.savez(path, x_train=images, y_train=labels, x_test=images, y_test=labels)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run with a best checkpoint, and a picture of a digit."""
    workdir = tmp_path_factory.mktemp("cli") / "run"
    args = ["--workdir", str(workdir), "--validation", "0.2", "--epochs", "3"]
    assert cli.main(["train", *args]) == 0
    picture = workdir.parent / "digit.png"
    cv2.imwrite(str(picture), convnets.load_dataset("digits").test[0]["image"])
    return workdir, picture


def test_train_writes_what_the_docs_say(finished):
    workdir, _ = finished
    config = json.loads((workdir / "config.json").read_text())
    assert (config["model"], config["data"], config["batch_size"]) == ("lenet5", "digits", 64)
    lines = journal.read_metrics(workdir)
    evaluations = [line for line in lines if "test_loss" in line]
    assert {"step", "test_loss", "test_accuracy", "test_examples"} <= evaluations[-1].keys()
    assert evaluations[-1]["test_examples"] == 359
    training = next(line for line in lines if "train_loss" in line)
    assert set(training) >= {
        *("step", "epoch", "train_loss", "train_accuracy", "learning_rate"),
        *("images_per_second", "data_wait", "seconds"),
    }
    assert (workdir / "checkpoints" / str(evaluations[-1]["step"])).is_dir()


def test_evaluate_repeats_the_last_evaluation(finished, capsys):
    workdir, _ = finished
    last = journal.read_metrics(workdir)[-1]
    for batch_size in (7, 359):
        out, _ = call(capsys, "evaluate", "--workdir", workdir, "--batch-size", batch_size)
        found = json.loads(out)
        assert found["step"] == last["step"]
        assert found["test_accuracy"] == last["test_accuracy"]
        assert found["test_examples"] == 359
        assert found["validation_accuracy"] == last["validation_accuracy"]
        assert found["test_loss"] == pytest.approx(last["test_loss"], rel=1e-6)


def test_evaluate_averages_over_views(finished, capsys):
    workdir, _ = finished
    out, _ = call(capsys, "evaluate", "--workdir", workdir, "--views", "flip")
    assert json.loads(out)["test_loss"] > journal.read_metrics(workdir)[-1]["test_loss"]
    message = refused(capsys, "evaluate", "--workdir", workdir, "--views", "flop")
    assert "unknown views 'flop'; did you mean 'flip'?" in message


def test_the_best_checkpoint_is_the_best_on_validation(finished, capsys):
    workdir, _ = finished
    evaluations = [line for line in journal.read_metrics(workdir) if "test_loss" in line]
    best = max(
        evaluations, key=lambda line: (line["validation_accuracy"], -line["validation_loss"])
    )
    out, _ = call(capsys, "evaluate", "--workdir", workdir, "--checkpoint", "best")
    assert json.loads(out)["step"] == best["step"]


def test_predict_prints_a_json_line_an_image(finished, capsys):
    workdir, picture = finished
    out, _ = call(capsys, "predict", "--workdir", workdir, picture, picture)
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["path"] for line in lines] == [str(picture)] * 2
    assert lines[0] | {"path": ""} == lines[1] | {"path": ""}
    assert len(lines[0]["names"]) == len(lines[0]["probabilities"]) == 5
    assert lines[0]["probabilities"] == sorted(lines[0]["probabilities"], reverse=True)
    run = convnets.load_run(workdir)
    image = convnets.load_dataset("digits").test[0]["image"]
    expected = convnets.predict(run.model, run.state, image[None])[0]
    assert lines[0]["names"][0] == str(expected.argmax())
    np.testing.assert_allclose(lines[0]["probabilities"][0], expected.max(), rtol=1e-5)


def test_a_run_from_python_is_opened_in_the_shell(tmp_path, capsys):
    workdir, dataset = tmp_path / "run", convnets.load_dataset("digits")
    model = convnets.create_model("cifar_resnet8", num_classes=10)
    result = convnets.fit(model, dataset, workdir=str(workdir), steps=2, progress=False)
    found = json.loads(call(capsys, "evaluate", "--workdir", workdir)[0])
    assert found["test_accuracy"] == result.history[-1]["test_accuracy"]
    out, _ = call(capsys, "train", "--resume", "--workdir", workdir, "--steps", 3)
    assert out.splitlines()[-1].startswith("step 3")


def test_steps_take_the_place_of_epochs_on_a_resume(tmp_path, capsys):
    quick = ["--model", "linear", "--workdir", tmp_path / "run"]
    call(capsys, "train", *quick, "--epochs", "0.2")
    out, _ = call(capsys, "train", *quick, "--resume", "--steps", "7")
    assert out.splitlines()[-1].startswith("step 7")
    out, _ = call(capsys, "train", *quick, "--resume", "--epochs", "0.5")
    assert out.splitlines()[-1].startswith("step 12")


def test_no_step_at_all_is_an_evaluation(capsys):
    out, _ = call(capsys, "train", "--model", "linear", "--steps", "0")
    assert out.splitlines()[-1].startswith("step 0")


def test_models_summary_and_help(capsys):
    out, _ = call(capsys, "models", "resnet5*")
    assert [line.split()[0] for line in out.splitlines()] == ["resnet50", "resnet50d"]
    assert "25,557,032 parameters" in out
    assert "4.09 G multiply-adds" in out
    out, _ = call(capsys, "summary", "resnet18", "--image", "64x64x3", "--num-classes", "10")
    assert "11,181,642" in out
    out, _ = call(capsys, "train", "--help")
    for option in ("--learning-rate", "--resume", "--checkpoint-every", "--label-smoothing"):
        assert option in out


def test_find_rate_suggests_one_and_draws(tmp_path, capsys):
    picture = tmp_path / "new" / "rates.png"
    options = ["--model", "linear", "--steps", "20", "--optimizer", "sgd", "--devices", "1"]
    out, _ = call(capsys, "find-rate", *options, "--picture", picture, "--smallest", "1e-5")
    assert out.startswith("learning rate 0.")
    assert picture.read_bytes()[:4] == b"\x89PNG"


def test_train_begins_from_a_file_of_weights(tmp_path, capsys, monkeypatch):
    """Of other classes and channels than the data's; what is given to fit, which checks it."""
    shapes = variable_shapes(convnets.create_model("resnet18", 5), "resnet18")
    flat = {path: np.full(shape, 0.5, np.float32) for path, shape in shapes.items()}
    state_dict = export_torch("resnet18", unflatten_dict(flat, sep="/"), "torchvision")
    write_safetensors(tmp_path / "weights.safetensors", state_dict)
    save_npz(tmp_path / "set.npz", side=33)
    given = []

    def fit(model, dataset, **options):
        given.append((model, dataset, options))
        return Result(None, [])

    monkeypatch.setattr("convnets.fitting.fit", fit)
    monkeypatch.chdir(tmp_path)
    names = ("--model", "resnet18", "--data", "npz:set.npz", "--weights", "weights.safetensors")
    call(capsys, "train", *names, "--weights-source", "torchvision")
    ((model, dataset, options),) = given
    images = jax.ShapeDtypeStruct((1, 33, 33, 1), np.float32)
    wanted = jax.eval_shape(partial(model.init, train=False), jax.random.key(0), images)
    found = read_variables(wanted, options["variables"])
    assert set(np.unique(found["params"]["backbone"]["conv1"]["kernel"])) == {1.5}  # a sum of three
    assert found["params"]["head"]["kernel"].shape == (512, 3)
    assert dataset.normalization.mean == (pytest.approx(np.mean([0.485, 0.456, 0.406])),)
    assert options["identity"]["weights"] == str(tmp_path / "weights.safetensors")
    error = refused(capsys, "train", *names[:-1], "nothing.pth")
    assert "nothing.pth" in error
    assert len(given) == 1


def test_a_run_from_weights_is_resumed_without_them(tmp_path, capsys):
    model, dataset = (
        convnets.create_model("linear", num_classes=10),
        convnets.load_dataset("digits"),
    )
    head = {"kernel": np.zeros((784, 10)), "bias": np.zeros(10)}
    identity = {"weights": str(tmp_path / "gone.safetensors")}
    options = {"identity": identity, "steps": 2, "progress": False, "workdir": tmp_path / "run"}
    convnets.fit(model, dataset, variables={"params": {"head": head}}, **options)
    out, _ = call(capsys, "train", "--resume", "--workdir", tmp_path / "run", "--steps", 3)
    assert out.splitlines()[-1].startswith("step 3")
    other = ("--workdir", tmp_path / "run", "--weights", "other")
    error = refused(capsys, "train", "--resume", *other)
    assert f"weights: '{identity['weights']}' in the run" in error


def test_a_run_without_workdir_writes_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out, _ = call(capsys, "train", *QUICK)
    assert "of 359" in out.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["train", "--model", "lenet6"], "did you mean 'lenet5'"),
        (["train", "--data", "digts"], "did you mean 'digits'"),
        (["train", "--optimizer", "adm"], "did you mean 'adam'"),
        (["train", "--schedule", "cosin"], "did you mean 'cosine'"),
        (["train", "--augment", "rotat"], "did you mean 'rotate'"),
        (["train", "--loss", "entropy"], "did you mean 'cross_entropy'"),
        (["train", "--lerning-rate", "1"], "--learning-rate"),
        (["train", "--model", "linear", "--freeze", "hed/*"], "'hed/*' matches no parameter"),
        (["find-rate", "--epochs", "3"], "takes no epochs"),
        (["find-rate", "--picture", "rates.mp3"], "cannot draw to rates.mp3; known are"),
        (["find-rate", "--smallest", "2", "--largest", "1"], "not from 2.0 to 1.0"),
        (["train", "--parallel", "pmapp"], "pmap"),
        (["train", "--steps", "abc"], "Error parsing --steps: invalid literal for int()"),
        (["train", "--ema", "1,5"], "Error parsing --ema: could not convert string to float"),
        (["trian"], "train"),
        (["train", "--batch-size", "0"], "batch_size must be a whole number, at least 1, not 0"),
        (["train", "--batch-size", "5000"], "5000"),
        (["train", "--batch-size", "60", "--devices", "8"], "56 or 64"),
        (["train", "--devices", "99"], "99 devices were asked for; there are 8"),
        (["train", "--learning-rate", "-1"], "learning_rate must be positive and finite, not -1"),
        (["train", "--epochs", "1", "--steps", "5"], "epochs or steps, not both"),
        (["train", "--ema", "1.5"], "ema must be in [0, 1), not 1.5"),
        (["train", "--schedule", "plateau"], "set a share apart, as validation 0.1"),
        (["train", "--resume"], "resume needs the workdir"),
        (["train", "--workdir", ""], "the workdir is the path of a folder, not ''"),
        (["train", "--data", "folder:"], "write folder:PATH"),
        (["train", "--image-size", "20000"], "GB of memory; take a smaller image size"),
        (["train", "--workdir"], "--workdir"),
        (["train", "--seed", "4294967296"], "seed must be from 0 to 2**32 - 1"),
        (["train", "--epochs", "1e9"], "there are at most 2,147,483,647"),
        (["train", "--model", "cifar_resnet8000000000"], "unknown model"),
        (["train", "--validation", "2"], "not 2"),
        (["train", "--model", "cifar_resnet21"], "cifar_resnet20"),
        (["train", "--data", "folder:/nowhere"], "/nowhere"),
        (["train", "--data", "npz:/nowhere.npz"], "/nowhere.npz"),
        (["summary", "resnet51"], "did you mean 'resnet50'"),
        (["summary", "lenet5", "--image", "28x28"], "224x224x3"),
        (["summary", "lenet5", "--image", "4x4x1"], "lenet5|pixel|4"),
        (["models", "nothing*"], "no model's name matches"),
        (["data", "prepare", "mnits"], "did you mean 'mnist'"),
        (["evaluate", "--workdir", "/nowhere"], "/nowhere holds no run"),
        (["train", "--resume", "--workdir", "/nowhere"], "/nowhere holds no run"),
        (["benchmark", "--model", "lenet6", "--batch-size", "2"], "did you mean 'lenet5'"),
        ([*BENCHMARK, "--batch-size", "0"], "the batch size is at least 1, not 0"),
        ([*BENCHMARK, "--batch-size", "2", "--lowering", "plan"], "did you mean 'plain'"),
        ([*BENCHMARK, "--batch-size", "2", "--precision", "half"], "known: bfloat16, float32"),
        ([*BENCHMARK, "--batch-size", "2", "--against", "tf"], "known: flax, torch"),
        ([*BENCHMARK, "--batch-size", "2", "--json", "/proc/x"], "cannot write to /proc/x"),
        ([*BENCHMARK, "--batch-size", "2", "--image", "9x9x1"], "came 4x4"),
        ([*BENCHMARK, "--batch-size", "9999999999"], "--memory tells the largest batch"),
        ([*BENCHMARK], "--batch-size"),
    ],
)
def test_bad_input_is_refused_in_one_message(capsys, args, message):
    error = refused(capsys, *args)
    assert any(part in error for part in message.split("|")), error


def test_benchmark_writes_what_the_docs_say(tmp_path, capsys):
    quick = ["--batch-size", "4", "--repetitions", "2", "--seconds", "0.02", "--against", "flax"]
    file = tmp_path / "found.json"
    out, _ = call(capsys, *BENCHMARK, *quick, "--mode", "infer", "--json", file)
    found = json.loads(file.read_text())
    assert {*("compile_seconds", "peak_bytes", "flops_per_second", "peer")} <= found.keys()
    assert len(found["images_per_second_repetitions"]) == 2
    least, most = sorted(found["images_per_second_repetitions"])
    assert least <= found["images_per_second"] <= most
    assert f"ratio: {found['ratio']:.2f}" in out
    assert found["command"].startswith("convnets benchmark --model lenet5 --batch-size 4")
    out, _ = call(capsys, *BENCHMARK, "--batch-size", "4", "--memory", "--json", file)
    assert "the largest batch that fits" in out
    assert json.loads(file.read_text())["memory"]["largest_batch"] > 1000


def test_a_benchmark_is_interrupted(tmp_path):
    file = tmp_path / "found.json"
    words = [*BENCHMARK, "--batch-size", "4", "--repetitions", "1000", "--json", file]
    process = shell.start(*words)
    time.sleep(5)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error == "convnets: stopped by SIGINT; nothing more was written\n"
    assert list(tmp_path.iterdir()) == []


def test_a_set_that_is_not_there_names_the_command_that_prepares_it(capsys, tmp_path):
    error = refused(capsys, "train", "--data", "cifar10", "--data-dir", tmp_path)
    assert "convnets data prepare cifar10" in error


def test_a_workdir_with_another_run_is_left_alone(finished, capsys):
    workdir, _ = finished
    before = {p: p.stat().st_mtime_ns for p in workdir.rglob("*")}
    error = refused(capsys, "train", "--workdir", workdir)
    assert "holds a run already" in error
    assert "--resume" in error
    assert {p: p.stat().st_mtime_ns for p in workdir.rglob("*")} == before


def test_bad_checkpoints_and_images_are_refused(finished, capsys, tmp_path):
    workdir, picture = finished
    error = refused(capsys, "evaluate", "--workdir", workdir, "--checkpoint", "12345")
    assert "there is no checkpoint 12345" in error
    error = refused(capsys, "evaluate", "--workdir", workdir, "--checkpoint", "bets")
    assert "last, best or a step" in error
    text = tmp_path / "text.png"
    text.write_text("this is no picture")
    truncated = tmp_path / "truncated.png"
    truncated.write_bytes(picture.read_bytes()[:-40])
    for path in (text, truncated, tmp_path / "missing.png"):
        assert str(path) in refused(capsys, "predict", "--workdir", workdir, path)
    out, error = call(capsys, "predict", "--workdir", workdir, text, picture, code=2)
    assert json.loads(out)["path"] == str(picture)  # the others are answered
    assert str(text) in error
    assert len(error.splitlines()) == 1


def test_a_run_is_read_from_any_folder(tmp_path, capsys, monkeypatch):
    save_npz(tmp_path / "set.npz")
    monkeypatch.chdir(tmp_path)
    call(capsys, "train", "--data", "npz:set.npz", "--data-dir", "sets", "--workdir", "run", *QUICK)
    config = journal.read_config("run")
    assert config["data"] == f"npz:{tmp_path / 'set.npz'}"
    assert config["data_dir"] == str(tmp_path / "sets")
    assert config["batch_size"] == 8  # of 12 examples on eight devices
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    out, _ = call(capsys, "evaluate", "--workdir", "../run")
    assert json.loads(out)["data"] == config["data"]
    call(capsys, "train", "--resume", "--workdir", "../run", "--steps", "5")
    (tmp_path / "set.npz").unlink()
    assert "--data names others" in refused(capsys, "evaluate", "--workdir", "../run")


def test_classes_of_other_names_are_said(finished, capsys, tmp_path):
    workdir, picture = finished
    for name in "abcdefghij":
        (tmp_path / name).mkdir()
        for copy in range(5):
            (tmp_path / name / f"{copy}.png").write_bytes(picture.read_bytes())
    _, error = call(capsys, "evaluate", "--workdir", workdir, "--data", f"folder:{tmp_path}")
    assert "the classes are 0, 1, 2, … in the run and a, b, c, … in folder:" in error


def test_a_terminal_without_the_letters_of_a_path(tmp_path):
    path = tmp_path / "größe.npz"
    save_npz(path)
    out, _ = shell.run("train", "--data", f"npz:{path}", *QUICK, PYTHONIOENCODING="ascii")
    assert r"gr\xf6\xdfe.npz: 12 train" in out


def test_other_data_with_other_classes_is_refused(finished, capsys, tmp_path):
    workdir, _ = finished
    save_npz(tmp_path / "three.npz", side=28)
    error = refused(
        capsys, "evaluate", "--workdir", workdir, "--data", f"npz:{tmp_path / 'three.npz'}"
    )
    assert "for 10 classes" in error
    assert "has 3" in error


def test_a_loss_that_explodes_stops_with_its_step_and_keeps_the_last_checkpoint(capsys, tmp_path):
    settings = ["--model", "mlp", "--workdir", tmp_path, "--checkpoint-every", "1"]
    settings += ["--optimizer", "sgd", "--learning-rate", "1e20", "--warmup", "39", "--steps", "40"]
    _, error = call(capsys, "train", *settings, code=2)
    assert "the loss of step" in error or "not finite at step" in error
    steps = sorted(int(p.name) for p in (tmp_path / "checkpoints").iterdir())
    if steps:
        assert f"the checkpoint of step {steps[-1]} is kept" in error
        run = convnets.load_run(tmp_path)
        assert all(np.isfinite(x).all() for x in run.state.params["head"].values())
    else:
        assert "there is no checkpoint" in error


def test_a_workdir_that_cannot_be_written(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    error = refused(capsys, "train", *QUICK, "--workdir", tmp_path / "file" / "run")
    assert "cannot write to" in error
    error = refused(capsys, "train", *QUICK, "--workdir", tmp_path / "file")
    assert "file: it is a file, not a folder" in error


def test_a_full_disk(tmp_path, capsys):
    folder = tmp_path / "journal"
    folder.mkdir()
    (folder / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(convnets.UserError, match="No space left"):
        journal.append(folder, {"step": 1})

    # No file may grow beyond 40 KiB: enough for config and metrics, not for the parameters.
    process = subprocess.run(
        f"ulimit -f 40; exec {shell.COMMAND} train --steps 4 --workdir {tmp_path / 'run'}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
        env={**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "false"},
    )
    assert process.returncode == 2, process.stdout + process.stderr
    assert "Traceback" not in process.stderr
    assert len(process.stderr.splitlines()) == 1
    assert process.stderr.endswith("checkpoints: File too large\n")


def test_a_reader_that_leaves_early_is_no_error():
    process = subprocess.run(
        f"{shell.COMMAND} models | head -n 1", shell=True, capture_output=True, text=True
    )
    assert process.stderr == ""
    assert process.returncode == 0
