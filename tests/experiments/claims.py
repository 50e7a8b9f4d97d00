"""The archived results of an experiment, and the experiment itself, for the tests of its claim."""

import importlib
import json
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "experiments"


def read(name):
    """The archive of `experiments/NAME.py`, found by its default settings, and the module."""
    archive = json.loads((FOLDER / "results" / f"{name}.json").read_text())
    assert archive["command"].startswith(f"python experiments/{name}.py")
    return archive, load(name)


def read_part(name):
    """As `read`, of an experiment that is archived case by case; skips where nothing is yet."""
    if not (FOLDER / "results" / f"{name}.json").exists():
        pytest.skip(f"nothing is archived: python experiments/{name}.py")
    return read(name)


def load(name):
    """`experiments/NAME.py` as a module."""
    if str(FOLDER) not in sys.path:
        sys.path.append(str(FOLDER))
    return importlib.import_module(name)
