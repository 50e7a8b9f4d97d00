"""The commands that look at models, as a user meets them."""

import subprocess
import sys

from convnets import list_models

from .shell import call

LIST = """
import sys
from convnets import cli
cli.main(["models"])
print([name for name in ("jax", "flax", "optax", "numpy") if name in sys.modules])
"""


def test_models_are_listed_without_jax():
    done = subprocess.run(
        [sys.executable, "-c", LIST], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert done[-1] == "[]"
    assert [line.split()[0] for line in done[:-1]] == list_models()


def test_the_help_says_what_the_numbers_leave_out(capsys):
    out, _ = call(capsys, "models", "--help")
    assert "auxiliary heads of GoogLeNet and Inception v3" in " ".join(out.split())
