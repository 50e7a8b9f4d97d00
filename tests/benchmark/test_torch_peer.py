import subprocess
import sys

import numpy as np
import pytest

from convnets.benchmark import torch_peer
from convnets.benchmark.workloads import create_workload
from convnets.errors import UserError


@pytest.mark.parametrize("mode", ["train", "infer"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_it_runs_in_its_fastest_form(mode, precision, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setattr(torch_peer, "CALIBRATION", 0.01)
    workload = create_workload("cifar_resnet8", 2, mode=mode, precision=precision)
    contestant = torch_peer.start(workload)
    contestant.run(2)
    assert contestant.name == "torch"
    forms = {"contiguous", "channels_last"}
    if mode == "infer":
        forms |= {f"{form}, frozen" for form in forms}
    assert contestant.form in forms


def test_training_moves_the_parameters_as_ours_do(monkeypatch):
    """Two steps of the same optimizer on the same batch, seen in the losses that follow."""
    torch = pytest.importorskip("torch")
    from convnets.benchmark.workloads import compile_program, create_batch, create_variables

    monkeypatch.setattr("convnets.benchmark.workloads.RATE", 0.02)
    monkeypatch.setattr(torch_peer, "RATE", 0.02)
    workload = create_workload("lenet5", 8)
    program = compile_program(workload)
    state, batch = program.arguments()
    ours = []
    for _ in range(4):
        state, metrics = program.compiled(state, batch)
        ours.append(float(metrics["loss"][0]) / 8)

    losses, plain = [], torch.nn.functional.cross_entropy

    def recording(*args):
        loss = plain(*args)
        losses.append(loss.item())
        return loss

    monkeypatch.setattr(torch.nn.functional, "cross_entropy", recording)
    run = torch_peer.prepare(workload, create_variables(workload), create_batch(workload))
    run(4)
    np.testing.assert_allclose(losses, ours, rtol=1e-4)
    assert losses[-1] < 0.9 * losses[0]


WITHOUT = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            raise ModuleNotFoundError("No module named 'torch'")
sys.meta_path.insert(0, Hidden())
from convnets import cli
sys.exit(cli.main("benchmark --model lenet5 --batch-size 2 --against torch".split()))
"""


def test_without_it_the_error_says_how_to_install_it():
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "convnets: PyTorch is not installed: pip install torch==2.13.0\n"


def test_a_model_without_a_peer():
    pytest.importorskip("torch")
    with pytest.raises(UserError, match="unknown model"):
        torch_peer.start(create_workload("lenet5", 2)._replace(model="lenet6"))
