"""The house itself: what may import what, how light it is, its style, its documentation."""

import ast
import doctest
import importlib
import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import jax
import pytest

import convnets

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "convnets"
FILES = sorted(PACKAGE.rglob("*.py"))
MODULES = sorted(
    module.name for module in pkgutil.walk_packages(convnets.__path__, prefix="convnets.")
)

LEVELS = {
    "errors": -1,
    "tables": -1,
    "describing": -1,
    "ops": 0,
    "layers": 1,
    "losses": 1,
    "metrics": 1,
    "data": 2,
    "models": 2,
    "training": 2,
    "parallel": 2,
    "tasks": 3,
    "units": 3,
    "unsupervised": 3,
    "weights": 3,
    "summary": 3,
    "feeding": 3,
    "sizing": 4,
    "runs": 4,
    "objective": 4,
    "semi_supervised": 4,
    "requirements": 4,
    "plans": 5,
    "planning": 6,
    "looking": 6,
    "asynchronous": 7,
    "opening": 6,
    "launching": 10,
    "prediction": 6,
    "fitting": 8,
    "rates": 8,
    "recipe": 5,
    "pretraining": 9,
    "committee": 9,
    "transfer": 9,
    "visualize": 9,
    "adversarial": 9,
    "doctor": 9,
    "benchmark": 8,
    "parsing": 9,
    "consultation": 10,
    "inspection": 10,
    "cli": 11,
    "__main__": 12,
}


def room_of(path):
    """The first name below `convnets` of a file; None for the package's own face."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return None if parts == ("__init__",) else parts[0]


def imported_rooms(path):
    """The rooms that a file imports anywhere, in functions too."""
    package = ["convnets", *path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = [*base, *(node.module.split(".") if node.module else [])]
            names = [".".join([*base, alias.name]) for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "convnets" and len(parts) > 1:
                yield parts[1]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path):
    room = room_of(path)
    if room is None:
        return
    for other in imported_rooms(path):
        assert other in LEVELS, f"{other} has no level"
        assert other == room or LEVELS[other] < LEVELS[room], f"{room} imports {other}"


def test_the_import_law_can_fail():
    assert "data" in set(imported_rooms(PACKAGE / "planning.py"))
    assert "errors" in set(imported_rooms(PACKAGE / "training" / "options.py"))


LIGHT = """
import json, sys, time
import jax, flax.linen
begin = time.perf_counter()
import convnets
seconds = time.perf_counter() - begin
dir(convnets), convnets.create_model("lenet5"), convnets.TrainState, convnets.fit
from jax._src import xla_bridge
print(json.dumps([seconds, sorted(sys.modules), xla_bridge.backends_are_initialized()]))
"""


def test_import_is_light_and_takes_no_device():
    out = subprocess.run(
        [sys.executable, "-c", LIGHT], capture_output=True, text=True, check=True, cwd=ROOT.parent
    ).stdout
    seconds, modules, initialized = json.loads(out)
    assert seconds < 0.3
    assert not initialized
    heavy = {"tensorflow", "tensorflow_datasets", "torch", "ray", "matplotlib", "sklearn", "cv2"}
    assert not heavy & set(modules)
    assert "grain" not in modules


def test_everything_public_is_there_and_documented():
    for name in convnets.__all__:
        assert getattr(convnets, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        convnets.nothing  # noqa: B018


def test_no_submodule_bears_the_name_of_an_exported_function():
    for name in ["convnets", *MODULES]:
        module = importlib.import_module(name)
        for path in getattr(module, "__path__", []):
            for inner in pkgutil.iter_modules([path]):
                value = vars(module).get(inner.name)
                assert value is None or not callable(value), f"{name}.{inner.name}"


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_run(name):
    module = importlib.import_module(name)
    assert module.__doc__, f"{name} has no docstring"
    globs = {**vars(module), "jax": jax, "jnp": jax.numpy}
    finder = doctest.DocTestFinder(exclude_empty=True)
    for example in finder.find(module, globs=globs):
        result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example)
        assert result.failed == 0, example.name


def test_style():
    folders = ["convnets", "tests", "experiments"]
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, *folders],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_is_read_in_one_sitting(path):
    assert path.name != "utils.py"
    most = 250 if path.parent.name == "models" else 300
    assert len(path.read_text().splitlines()) <= most
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            lines = body[-1].end_lineno - body[0].lineno + 1 if body else 0
            assert lines <= 50, f"{node.name} has {lines} lines"
