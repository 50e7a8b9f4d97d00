"""The commands that look at models, as a user meets them."""

import subprocess
import sys
import types

import numpy as np
import pytest

from convnets import list_models
from convnets.weights import read_weights

from .shell import call, refused

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


@pytest.fixture
def weight_file(tmp_path, monkeypatch):
    """A function: the path of a weight file with a state dict, as far as its reader tells."""

    def save(state_dict):
        reader = types.SimpleNamespace(read_state_dict=lambda path: state_dict)
        monkeypatch.setitem(sys.modules, "convnets.weights.files", reader)
        return tmp_path / "model.safetensors"

    return save


def test_weights_that_a_reference_fills_agree(capsys, shared):
    file = shared / "parity" / "torchvision" / "resnet18.npz"
    out, _ = call(capsys, "weights", "check", "resnet18", file)
    lines = out.splitlines()
    assert lines[1].split()[:4] == ["backbone/conv1", "conv1", "112x112x64", "0.00025635"]
    assert lines[-1] == "verdict: agrees"
    error = refused(capsys, "weights", "check", "resnet34", file)
    assert "weights of resnet34 for torchvision: missing layer1.2" in error
    error = refused(capsys, "weights", "check", "resnet18", file, "--source", "timms")
    assert "unknown library 'timms'; did you mean 'timm'?" in error


def test_a_weight_file_is_compared_with_a_reference(capsys, shared, weight_file):
    reference = shared / "parity" / "torchvision" / "resnet18.npz"
    state_dict = dict(read_weights(reference)[0])
    file = weight_file(state_dict)
    out, _ = call(capsys, "weights", "check", "resnet18", file)
    assert out == (
        f"all 122 tensors of {file} are those of resnet18 in torchvision; with --reference its "
        "answers are compared too\n"
    )
    state_dict["layer1.0.conv2.weight"] = 2 * state_dict["layer1.0.conv2.weight"]
    out, _ = call(capsys, "weights", "check", "resnet18", file, "--reference", reference, code=1)
    assert "the first that differs: backbone/stage1_block1/conv2, there layer1.0.conv2\n" in out
    assert out.endswith("verdict: differs\n")
    state_dict["fc.bias"] = np.zeros(10, np.float32)
    state_dict["fc.weight"] = np.zeros((10, 512), np.float32)
    assert "(1000,) (came float32 (10,))" in refused(capsys, "weights", "check", "resnet18", file)
    call(capsys, "weights", "check", "resnet18", file, "--num-classes", 10)


def test_bad_weights_and_references_are_refused(capsys, tmp_path, weight_file):
    np.savez(tmp_path / "other.npz", x_train=np.zeros(3))
    error = refused(capsys, "weights", "check", "resnet18", tmp_path / "other.npz")
    assert "is no reference; it lacks input_shape, layers, logits, seed" in error
    error = refused(capsys, "weights", "check", "resnet18", tmp_path / "none.npz")
    assert "none.npz: No such file or directory" in error
    file = weight_file({"fc.bias": np.zeros(10, np.float32)})
    error = refused(capsys, "weights", "check", "resnet18", file, "--reference", "/nowhere.npz")
    assert "cannot read /nowhere.npz: No such file or directory" in error
    assert "did you mean 'resnet18'" in refused(capsys, "weights", "check", "resnt18", file)
    error = refused(capsys, "weights", "check", "lenet5", file)
    assert "there is no table of names of 'lenet5' in torchvision" in error
    assert "missing bn1.bias" in refused(capsys, "weights", "check", "resnet18", file)
    assert "FILE" in refused(capsys, "weights", "check", "resnet18")
