"""Every notebook runs from top to bottom, uses public names only, and is kept with its outputs."""

import ast
import copy
import re
import types
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import convnets

from . import shell

PATHS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
BYTES = 600_000
PLACES = re.compile(r"/[\w.-]+/|site-packages")  # of the machine that it ran on


@pytest.fixture(params=PATHS, ids=lambda path: path.stem)
def path(request):
    return request.param


def read(path):
    return nbformat.read(path, as_version=4)


def outputs(notebook):
    return [output for cell in code_cells(notebook) for output in cell.outputs]


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def pictures(notebook):
    return sum("image/png" in output.get("data", {}) for output in outputs(notebook))


def texts(notebook):
    """What is shown as text: streams, and representations of values."""
    for output in outputs(notebook):
        yield output.get("text", "") + output.get("data", {}).get("text/plain", "")


def test_there_are_notebooks():
    assert PATHS


def test_runs_from_top_to_bottom(path, tmp_path, monkeypatch, request):
    if 'load_dataset("cifar10")' in path.read_text().replace("\\", ""):
        shared = request.getfixturevalue("shared")
        monkeypatch.setenv("TFDS_DATA_DIR", str(shared / "data" / "tfds"))
    monkeypatch.setenv("CONVNETS_NOTEBOOK_STEPS", "3")
    monkeypatch.setenv("XLA_FLAGS", shell.flags_for_one_device())  # as most readers have
    monkeypatch.delenv("MPLBACKEND")  # the kernel's own, which keeps pictures
    kept = read(path)
    executed = NotebookClient(
        copy.deepcopy(kept),
        kernel_name="python3",
        timeout=120,
        resources={"metadata": {"path": str(tmp_path)}},
    ).execute()  # raises where a cell does
    assert pictures(executed) == pictures(kept)
    assert not [text for text in texts(executed) if "Warning" in text]
    assert not list(tmp_path.iterdir())


def test_is_kept_with_its_outputs(path):
    notebook = read(path)
    nbformat.validate(notebook)
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))
    assert pictures(notebook) >= 3
    assert not [output for output in outputs(notebook) if output.output_type == "error"]
    assert not [text for text in texts(notebook) if "Warning" in text or PLACES.search(text)]
    assert path.stat().st_size < BYTES


def test_pictures_in_the_text_are_there(path):
    for cell in read(path).cells:
        if cell.cell_type == "markdown":
            named = set(re.findall(r"\(attachment:([^)]+)\)", cell.source))
            assert named == set(cell.get("attachments", {}))


def test_uses_public_names_only(path):
    code = "\n".join(cell.source for cell in code_cells(read(path)))
    used = set(names_of_convnets(ast.parse(code)))
    assert used
    assert not [name for name in used if not is_public(name)]


def names_of_convnets(tree):
    """`convnets.a.b` as `("a", "b")`, wherever it stands; what is imported from inside as well."""
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "convnets":
            yield from ((*node.module.split(".")[1:], alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            names = (alias.name.split(".") for alias in node.names)
            yield from (tuple(parts[1:]) for parts in names if parts[0] == "convnets" and parts[1:])
        elif isinstance(node, ast.Attribute) and id(node) not in inner:
            parts = []
            while isinstance(node, ast.Attribute):
                parts, node = [node.attr, *parts], node.value
            if isinstance(node, ast.Name) and node.id == "convnets":
                yield tuple(parts)


def is_public(parts):
    """Whether every module on the way exports what is taken from it."""
    place = convnets
    for name in parts:
        if not isinstance(place, types.ModuleType):
            return True
        if name not in place.__all__:
            return False
        place = getattr(place, name)
    return True


@pytest.mark.parametrize(
    ("code", "public"),
    [
        ("convnets.train(step)", True),
        ("convnets.parallel.compile(step)", True),
        ("convnets.TrainState.create(variables)", True),
        ("from convnets.layers import Conv", True),
        ("convnets.fitting.fit(model)", False),
        ("convnets.training.loop.train(step)", False),
        ("import convnets.planning", False),
        ("from convnets.data.digits import load_digits", False),
    ],
)
def test_tells_public_names_from_others(code, public):
    (name,) = names_of_convnets(ast.parse(code))
    assert is_public(name) == public
