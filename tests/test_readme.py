"""The README's code runs as it stands there."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


def test_there_are_three_uses_and_a_block_for_each_part_that_has_one():
    assert len(BLOCKS) == 10
    assert len(BLOCKS[1].strip().splitlines()) <= 40


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_code_runs(number, tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", BLOCKS[number]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert list(tmp_path.iterdir()) == []


def test_commands_and_options_exist():
    from convnets import cli, consultation, inspection, launching, parsing

    shown = set(re.findall(r"^convnets ([\w-]+)", README.read_text(), re.MULTILINE))
    assert shown == {
        "train",
        "launch",
        "find-rate",
        "evaluate",
        "predict",
        "models",
        "summary",
        "data",
        "benchmark",
        "weights",
        "doctor",
    }
    options = set(re.findall(r"`(--[a-z-]+)", README.read_text()))
    known = {*cli.RunOptions.__dataclass_fields__, *cli.TrainingOptions.__dataclass_fields__}
    for command in (
        cli.find_rate,
        cli.evaluate,
        inspection.benchmark,
        inspection.check,
        consultation.doctor,
    ):
        known |= {*inspect.signature(command).parameters}
    known |= {*inspect.signature(launching.launch).parameters}
    known |= {"json", *parsing.ProcessOptions.__dataclass_fields__}
    assert options <= {"--" + name.replace("_", "-") for name in known}


def training_commands():
    """Those of the README that need nothing but the embedded digits."""
    text = README.read_text().replace("\\\n", " ")
    lines = re.findall(r"^(?:\w+=\S+ )*convnets (train\b[^#\n]*)", text, re.MULTILINE)
    ours = [line for line in lines if not re.search(r"[A-Z]{3}|--resume|--data ", line)]
    return [line.split() for line in ours]


@pytest.mark.parametrize("words", training_commands(), ids=" ".join)
def test_training_commands_can_be_followed(words, monkeypatch):
    from convnets import cli, fitting, planning
    from convnets.training.options import create_options

    planned = []

    def plan(model, dataset, *, variables=None, identity=None, **options):
        planned.append(planning.make_plan(model, dataset, create_options(**options)))
        return fitting.Result(None, [])

    monkeypatch.setattr(fitting, "fit", plan)
    assert cli.main(words) == 0
    assert len(planned) == 1


def test_what_may_change_on_a_resume_is_said_as_it_is():
    from convnets.training.options import MAY_CHANGE

    text = README.read_text().split("settings may change:")[1].split(".\n")[0]
    assert re.findall(r"`--([a-z-]+)`", text) == [name.replace("_", "-") for name in MAY_CHANGE]


def test_the_map_names_what_is_there():
    rooms = set(re.findall(r"^\| `convnets/(\w+)", README.read_text(), re.MULTILINE))
    package = README.parent / "convnets"
    there = {p.name for p in package.iterdir() if p.is_dir() and p.name != "__pycache__"}
    assert there <= rooms
