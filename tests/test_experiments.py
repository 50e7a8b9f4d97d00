"""Every experiment runs on a small budget; what is archived bears out what is claimed."""

import io
import json
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from . import shell
from .experiments import claims

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "experiments"
TOOLS = (
    "archive",
    "broken_setups",
    "cases",
    "input_loaders",
    "interconnects",
    "many_devices",
    "mnist_systems",
    "perceptron_parts",
    "pictures",
    "pretraining_networks",
    "report",
    "scaling_process",
    "tables",
    "trainings",
    "unseen_setups",
)
EXPERIMENTS = [path.stem for path in sorted(FOLDER.glob("*.py")) if path.stem not in TOOLS]
ARCHIVED = [path.stem for path in sorted((FOLDER / "results").glob("*.json"))]


def run(name, *words, folder):
    """Runs a file of experiments/ in a folder, on one device; threads that wait for one another
    would take the core of the tests beside."""
    return subprocess.run(
        [sys.executable, FOLDER / f"{name}.py", *map(str, words)],
        cwd=folder,
        env={**os.environ, "XLA_FLAGS": shell.flags_for_one_device(), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def check_archive(archive, name):
    assert archive["experiment"] == name
    assert archive["command"].startswith(f"python experiments/{name}.py")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", archive["date"])
    assert archive["hardware"].keys() >= {"processor", "cores", "devices"}
    assert archive["versions"].keys() == {"python", "jax", "jaxlib", "flax", "optax", "convnets"}
    assert archive["repetitions"] == count_repetitions(archive) > 0
    assert archive["minutes"] > 0


def count_repetitions(archive):
    """A result is a repetition; of what `speed` compares, each result keeps all repetitions."""
    if archive["experiment"] != "speed":
        return len(archive["results"])
    (count,) = {
        len(figures["images_per_second_repetitions"])
        for result in archive["results"]
        for figures in result["contestants"].values()
    }
    return count


def snapshot():
    return {path: path.read_bytes() for path in (FOLDER / "results").iterdir()}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_quick_run_archives_where_told(name, tmp_path):
    kept, path = snapshot(), tmp_path / "results" / "quick.json"
    done = run(name, "--quick", "--archive", path, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    archive = json.loads(path.read_text())
    check_archive(archive, name)
    assert snapshot() == kept
    assert list(tmp_path.iterdir()) == [path.parent]
    check_report(archive, name)
    if name == "speed":
        check_speed(archive)


def check_report(archive, name):
    """The table has its rows, and the figure, where there is one, can be drawn."""
    experiment = claims.load(name)
    assert experiment.table(archive).startswith("| ")
    if hasattr(experiment, "figure"):
        figure = experiment.figure(archive)
        figure.savefig(io.BytesIO())
        plt.close(figure)


def check_speed(archive):
    """Every contestant is there, and ratios are medians over pairs of turns."""
    for result in archive["results"]:
        contestants = result["contestants"]
        assert contestants.keys() >= {"plain", "xla", "flax"}
        ours, theirs = (
            contestants[name]["images_per_second_repetitions"] for name in ("xla", "flax")
        )
        assert contestants["xla"]["images_per_second"] == pytest.approx(statistics.median(ours))
        assert result["ratios"]["xla/flax"]["ratio"] == pytest.approx(
            statistics.median(mine / peers for mine, peers in zip(ours, theirs))
        )
    table = claims.load("speed").table(archive).splitlines()
    assert table[2].startswith("| lenet5 (8), train | ")
    assert len({line.count("|") for line in table[:4]}) == 1


@pytest.mark.parametrize("name", ARCHIVED)
def test_archived_results(name):
    assert name in EXPERIMENTS
    check_archive(json.loads((FOLDER / "results" / f"{name}.json").read_text()), name)


def test_mnist_lenet5_goes_on_where_it_stopped(tmp_path):
    """A run in a workdir is found finished by the next one, which archives the same results."""
    kept = snapshot()
    words = ["--quick", "--seeds", 3, "--workdir", tmp_path / "runs"]
    first = run("mnist_lenet5", *words, "--archive", tmp_path / "first.json", folder=tmp_path)
    second = run(
        "mnist_lenet5", *words, "--resume", "--archive", tmp_path / "second.json", folder=tmp_path
    )
    found = [
        json.loads((tmp_path / name).read_text())["results"]
        for name in ("first.json", "second.json")
    ]
    without_times = [[{**line, "seconds": None} for line in lines] for lines in found]
    assert without_times[0] == without_times[1], first.stderr + second.stderr
    third = run("mnist_lenet5", *words, folder=tmp_path)
    assert third.returncode == 1
    assert "holds a run already" in third.stderr
    assert "Traceback" not in third.stderr
    fourth = run("mnist_lenet5", "--quick", "--resume", folder=tmp_path)
    assert fourth.returncode == 1
    assert fourth.stderr == (
        "mnist_lenet5: --resume needs the --workdir of the runs to go on with, or their --archive\n"
    )
    assert snapshot() == kept


def test_mnist_lenet5_claim():
    archive = json.loads((FOLDER / "results" / "mnist_lenet5.json").read_text())
    results = archive["results"]
    assert archive["command"] == "python experiments/mnist_lenet5.py"
    assert [repetition["seed"] for repetition in results] == [0, 1, 2]
    for repetition in results:
        assert repetition["test_examples"] == 10_000
        share = repetition["test_errors"] / repetition["test_examples"]
        assert repetition["test_error_percent"] == pytest.approx(100 * share)
        assert repetition["seconds"] < 180
    median = statistics.median(repetition["test_error_percent"] for repetition in results)
    assert median <= 0.65
    source = (FOLDER / "mnist_lenet5.py").read_text()
    assert f"{median:.2f} %" in source.split('"""')[1]
    assert len(source.splitlines()) <= 120


def test_digits_defaults_claim():
    archive = json.loads((FOLDER / "results" / "digits_defaults.json").read_text())
    assert archive["command"] == "python experiments/digits_defaults.py"
    assert [repetition["seed"] for repetition in archive["results"]] == [0, 1, 2]
    for repetition in archive["results"]:
        assert repetition["test_examples"] == 359
        assert repetition["test_accuracy"] >= 0.985
        assert repetition["seconds"] < 30


def test_classic_digits_claim():
    archive = json.loads((FOLDER / "results" / "classic_digits.json").read_text())
    assert archive["command"] == "python experiments/classic_digits.py"
    assert [repetition["seed"] for repetition in archive["results"]] == [0, 1, 2]
    for repetition in archive["results"]:
        assert repetition["test_examples"] == 359
        for name in ("hmax", "neocognitron", "neocognitron_svm"):
            assert repetition[f"{name}_accuracy"] > 0.9


def test_input_path_claim():
    archive = json.loads((FOLDER / "results" / "input_path.json").read_text())
    assert archive["command"] == "python experiments/input_path.py"
    for photos in ("as they are", "twice the size"):
        lines = [x["images_per_second"] for x in archive["results"] if x["photos"] == photos]
        assert len(lines) == archive["settings"]["repetitions"] >= 5
        for workers in (0, 1, 2):
            ours, peer = f"convnets, {workers} workers", f"torch, {workers} workers"
            assert statistics.median(rates[ours] / rates[peer] for rates in lines) >= 1.2
        peer = "tensorflow"
        ratio = statistics.median(rates["convnets, 0 workers"] / rates[peer] for rates in lines)
        assert ratio >= 1


# At least these ratios in training: with oneDNN to PyTorch, without, and with it to Flax.
BARS = {
    "lenet5": (1.2, 0.6, 2.5),
    "cifar_resnet20": (1.15, 0.6, 2.5),
    "alexnet": (1.2, 0.8, 1.4),
    "resnet18": (1.1, 0.8, 2),
    "resnet50": (1.1, 0.9, 2.5),
}


def test_speed_claim():
    archive = json.loads((FOLDER / "results" / "speed.json").read_text())
    assert archive["command"] == "python experiments/speed.py"
    assert archive["repetitions"] >= 5
    ratios = {
        (result["model"], result["mode"], result["precision"]): {
            pair: found["ratio"] for pair, found in result["ratios"].items()
        }
        for result in archive["results"]
    }
    for model, bars in BARS.items():
        found = ratios[model, "train", "float32"]
        pairs = ("onednn/torch", "plain/torch", "onednn/flax")
        assert all(found[pair] >= bar for pair, bar in zip(pairs, bars)), model
        assert ratios[model, "infer", "float32"]["onednn/torch"] > 0.9  # PyTorch's frozen graph
    assert ratios["resnet50", "train", "bfloat16"]["onednn/torch"] >= 1


def test_end_to_end_claim():
    archive = json.loads((FOLDER / "results" / "end_to_end.json").read_text())
    assert archive["command"] == "python experiments/end_to_end.py"
    for batch_size in (64, 512):
        ratios = [x["ratio"] for x in archive["results"] if x["batch_size"] == batch_size]
        assert len(ratios) >= 5
        assert statistics.median(ratios) >= 0.8


def test_fully_convolutional_claim():
    archive = json.loads((FOLDER / "results" / "fully_convolutional.json").read_text())
    assert archive["command"] == "python experiments/fully_convolutional.py"
    for model, bar in (("lenet1", 10), ("lenet5", 5), ("alexnet", 2)):
        lines = [line for line in archive["results"] if line["model"] == model]
        assert len(lines) == archive["settings"]["repetitions"] >= 5
        assert statistics.median(line["ratio"] for line in lines) >= bar
        for line in lines:
            assert line["ratio"] == pytest.approx(line["whole"] / line["sliding"])
            # LeNet-1 alone has no padding, whose crops see zeros where the map sees the image.
            assert (line["difference"] < 1e-5) == (model == "lenet1")


def test_readme_tables_are_up_to_date(tmp_path):
    asked_for = re.findall(r"<!-- results: (\w+)", (ROOT / "README.md").read_text())
    assert sorted(asked_for) == ARCHIVED
    done = run("report", "--check", folder=tmp_path)
    assert done.returncode == 0, done.stderr


def test_report_writes_between_the_marks(tmp_path):
    readme = tmp_path / "README.md"
    before, after = "# Title\n\n<!-- results: mnist_lenet5 -->\n", "<!-- end -->\n\nMore.\n"
    readme.write_text(f"{before}old\n{after}")
    checked = run("report", "--check", "--readme", readme, folder=tmp_path)
    assert checked.returncode == 1
    assert "-old" in checked.stderr
    assert readme.read_text() == f"{before}old\n{after}"
    assert run("report", "--readme", readme, folder=tmp_path).returncode == 0
    text = readme.read_text()
    assert text.startswith(before)
    assert text.endswith(after)
    assert "| LeNet-5" in text
    assert run("report", "--check", "--readme", readme, folder=tmp_path).returncode == 0


def test_report_refuses_a_table_that_nothing_makes(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("<!-- results: mnist_lenet6 -->\n<!-- end -->\n")
    done = run("report", "--readme", readme, folder=tmp_path)
    assert done.returncode == 1
    assert "'mnist_lenet6'" in done.stderr
