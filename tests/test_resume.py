"""Killed, stopped and resumed runs equal an uninterrupted one, bit for bit."""

import json
import random
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from convnets.training import Checkpoints, journal

from . import shell

SETTINGS = [
    *("--steps", 90, "--batch-size", 48, "--evaluate-every", 10, "--log-every", 7),
    *("--checkpoint-every", 5, "--validation", 0.1, "--ema", 0.9, "--devices", 2),
    *("--schedule", "plateau", "--augment", "translate", "rotate", "--parallel", "shard_map"),
]


def lines_of(workdir):
    """The run's lines without what a clock says."""
    lines = journal.read_metrics(workdir)
    for line in lines:
        for name in ("seconds", "images_per_second", "data_wait"):
            line.pop(name, None)
    return lines


def arrays_of(workdir):
    with Checkpoints(workdir / "checkpoints", read_only=True) as checkpoints:
        arrays, host = checkpoints._read(checkpoints.steps()[-1])
    return arrays, {name: host[name] for name in ("step", "window", "best")}


def assert_same_run(workdir, expected):
    assert lines_of(workdir) == lines_of(expected)
    (found, found_host), (wanted, wanted_host) = arrays_of(workdir), arrays_of(expected)
    assert found_host == wanted_host
    assert found.keys() == wanted.keys()
    for path, array in found.items():
        assert array.tobytes() == wanted[path].tobytes(), path


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("uninterrupted") / "run"
    out, _ = shell.run("train", "--workdir", workdir, *SETTINGS)
    assert out.splitlines()[-1].startswith("step 90")
    assert "of 359" in out.splitlines()[-1]
    return workdir


def wait_for(process, holds):
    while not holds():
        assert process.poll() is None, process.communicate()
        time.sleep(0.0005)


def last_step(workdir):
    lines = journal.read_metrics(workdir)
    return lines[-1]["step"] if lines else 0


def is_saving(workdir, since):
    """Whether a checkpoint after a step is being written at this moment."""
    names = [path.name for path in (workdir / "checkpoints").glob("*.orbax-checkpoint-tmp*")]
    return any(int(name.split(".")[0]) > since for name in names)


def test_kills_and_resumes_equal_an_uninterrupted_run(tmp_path, uninterrupted):
    workdir, rng = tmp_path / "run", random.Random(time.time_ns())
    process = shell.start("train", "--workdir", workdir, *SETTINGS)
    wait_for(process, lambda: last_step(workdir) >= 7)
    time.sleep(rng.uniform(0, 0.2))
    shell.kill(process)

    process = shell.start("train", "--resume", "--workdir", workdir)
    wait_for(process, lambda: is_saving(workdir, since=20))
    shell.kill(process)  # during a save
    with open(workdir / "metrics.jsonl", "a") as file:
        file.write('{"step": 88, "epo')  # a torn last line

    process = shell.start("train", "--resume", "--workdir", workdir)
    wait_for(process, lambda: 50 <= last_step(workdir) < 88)
    time.sleep(rng.uniform(0, 0.1))
    shell.kill(process)

    out, _ = shell.run("train", "--resume", "--workdir", workdir)
    assert "going on from the checkpoint of step" in out
    assert_same_run(workdir, uninterrupted)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_save_a_checkpoint_and_end_cleanly(tmp_path, uninterrupted, number):
    workdir = tmp_path / "run"
    process = shell.start("train", "--workdir", workdir, *SETTINGS)
    wait_for(process, lambda: last_step(workdir) >= 20)
    process.send_signal(number)
    out, error = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert error == ""
    said = out.splitlines()[-1]
    step = int(said.split("after step ")[1].split(";")[0])
    assert said == (
        f"stopped by {number.name} after step {step}; checkpoint in {workdir / 'checkpoints'}"
    )
    with Checkpoints(workdir / "checkpoints", read_only=True) as checkpoints:
        assert checkpoints.steps()[-1] == step
    shell.run("train", "--resume", "--workdir", workdir)
    assert_same_run(workdir, uninterrupted)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("longest", [0.3, 1, 3, 6])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_at_any_moment_end_cleanly(tmp_path, number, longest):
    """While Python imports, while the data is read, while the step compiles, while it ends."""
    workdir = tmp_path / "run"
    process = shell.start("train", "--workdir", workdir, "--steps", 12)
    wait_for(process, lambda: has_handlers(process.pid))
    time.sleep(random.Random(time.time_ns()).uniform(0, longest))
    process.send_signal(number)
    out, error = process.communicate(timeout=60)
    assert process.returncode in (128 + number, 0), (out, error)
    assert len(error.splitlines()) <= 1
    last = (error or out).splitlines()[-1]
    assert f"stopped by {number.name}" in last if process.returncode else "step 12" in last
    if workdir.exists():
        shell.run("train", "--resume", "--workdir", workdir)
        assert last_step(workdir) == 12


def has_handlers(pid):
    """Whether a process handles SIGTERM, and so SIGINT too, which Python itself handles before."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1


def test_a_damaged_last_checkpoint_costs_only_time(tmp_path, uninterrupted):
    workdir = tmp_path / "run"
    shell.run("train", "--workdir", workdir, *SETTINGS[2:], "--steps", 40, code=0)
    data = next((workdir / "checkpoints" / "40" / "state" / "d").iterdir())
    data.write_bytes(data.read_bytes()[:-7])
    out, error = shell.run("train", "--resume", "--workdir", workdir, "--steps", 90)
    assert "checkpoint 40 is damaged" in out
    assert "going on from the checkpoint of step 35" in out
    assert error == ""
    found, wanted = arrays_of(workdir)[0], arrays_of(uninterrupted)[0]
    assert all(np.array_equal(found[path], wanted[path]) for path in wanted)


def test_what_may_change_on_a_resume_and_what_may_not(tmp_path):
    workdir = tmp_path / "run"
    shell.run("train", "--workdir", workdir, "--model", "linear", "--steps", 6)
    config = (workdir / "config.json").read_text()
    for change, shown in (
        (("--model", "mlp"), "model: 'linear' in the run, 'mlp' now"),
        (("--learning-rate", "0.5"), "learning_rate: 0.002 in the run, 0.5 now"),
        (("--batch-size", "32"), "batch_size: 64 in the run, 32 now"),
    ):
        _, error = shell.run("train", "--resume", "--workdir", workdir, *change, code=2)
        assert shown in error
        assert len(error.splitlines()) == 1
    assert (workdir / "config.json").read_text() == config
    changes = ("--steps", 9, "--devices", 1, "--log-every", 2, "--keep", 1, "--parallel", "pmap")
    shell.run("train", "--resume", "--workdir", workdir, *changes)
    assert last_step(workdir) == 9
    assert json.loads((workdir / "config.json").read_text())["steps"] == 9
