"""Two and four processes train as one does, and leave one run behind."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import convnets
from convnets import parallel
from convnets.launching import find_free_port

from ..shell import flags_for_one_device
from ..sockets import assert_on_loopback
from . import member, sharded_member

ROOT = Path(__file__).parents[2]


def run_members(folder, count, program="member", devices=1):
    """Runs `member.py` in so many processes, and looks at their sockets while all are there."""
    command = [sys.executable, "-W", "error", "-m", f"tests.parallel.{program}"]
    coordinator = f"127.0.0.1:{find_free_port()}"
    flags = f"{flags_for_one_device()} --xla_force_host_platform_device_count={devices}"
    environment = {**os.environ, "XLA_FLAGS": flags, "NPROC": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    processes = [
        subprocess.Popen(
            [*command, str(folder), coordinator, str(count), str(index)],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index in range(count)
    ]
    try:
        while not all((folder / f"ready{index}").exists() for index in range(count)):
            if any(process.poll() is not None for process in processes):
                break
            time.sleep(0.1)
        else:
            assert_on_loopback(process.pid for process in processes)
        (folder / "seen").touch()
        said = [process.communicate(timeout=300)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert [process.returncode for process in processes] == [0] * count, "\n".join(said)


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    """The folder in which four processes have begun a run."""
    folder = tmp_path_factory.mktemp("four")
    run_members(folder, 4)
    return folder


@pytest.fixture(scope="module")
def two(four, tmp_path_factory):
    """The folder in which two processes have gone on with the run of the four."""
    folder = tmp_path_factory.mktemp("two")
    shutil.copytree(four / "run", folder / "run")
    run_members(folder, 2)
    return folder


@pytest.fixture(scope="module")
def alone():
    """Ten steps of one process."""
    return member.steps(devices=1)


@pytest.fixture(scope="module")
def whole():
    """A training of one process and one device."""
    return member.result_arrays(member.fit(steps=member.LAST, devices=1))


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    """The folder of two processes with a mesh of data over both by model within each."""
    folder = tmp_path_factory.mktemp("sharded")
    run_members(folder, 2, "sharded_member", devices=2)
    return folder


def read(folder, name, count):
    """What every process has found, once it is known to be the same."""
    first, *others = [dict(np.load(folder / f"{name}{index}.npz")) for index in range(count)]
    for other in others:
        assert other.keys() == first.keys()
        for path, array in first.items():
            assert array.tobytes() == other[path].tobytes(), path
    return first


def assert_close(found, expected):
    assert found.keys() == expected.keys()
    for path, array in expected.items():
        assert found[path].dtype == np.asarray(array).dtype
        np.testing.assert_allclose(found[path], array, rtol=1e-5, atol=1e-5, err_msg=path)


def test_ten_steps_of_four_processes_are_those_of_one(four, alone):
    found = read(four, "jit", 4)
    assert_close(found, alone)
    assert any(path.startswith("9.0.backbone") for path in found)  # gradients of the last step
    assert any(path.startswith("state.batch_stats") for path in found)
    assert found["evaluation.test_examples"] == 53


@pytest.mark.parametrize("name", ["jit", "shard_map"])
def test_ten_steps_of_two_processes_are_those_of_one(two, alone, name):
    assert_close(read(two, name, 2), alone)


def test_several_steps_in_a_call_of_two_processes_are_the_same(two, alone):
    found = read(two, "several", 2)
    state = {path: array for path, array in alone.items() if path.startswith(("state.", "eval"))}
    assert_close({path: found[path] for path in state}, state)


def test_a_checkpoint_of_four_processes_resumes_on_two_and_on_one(four, two, whole, tmp_path):
    begun = read(four, "fit", 4)
    assert begun["step"] == member.FIRST
    assert whole["line.12.test_examples"] == 53
    assert_close(
        {path: x for path, x in begun.items() if "line" in path},
        {path: x for path, x in whole.items() if path in begun and "line" in path},
    )
    assert_close(read(two, "fit", 2), whole)
    shutil.copytree(four / "run", tmp_path / "run")
    resumed = member.fit(tmp_path / "run", steps=member.LAST, resume=True, devices=1)
    assert_close(member.result_arrays(resumed), whole)


def test_a_model_sharded_within_each_process_trains_and_resumes_as_on_one_device(sharded, whole):
    """Its optimizer's state is sharded over the processes besides."""
    begun = read(sharded, "begun", 2)
    assert begun["step"] == member.FIRST
    assert_close(read(sharded, "ended", 2), whole)


def test_what_is_gathered_from_many_processes_is_never_whole_on_a_device(sharded):
    """Of six arrays four are sharded over processes too; one at a time is sent to all."""
    found = read(sharded, "gathered", 2)
    assert found["right"].all()
    assert found["copies"] == 4
    assert found["most"] == 4 * sharded_member.SIDE**2


def test_process_0_alone_writes(four, two):
    for folder in (four, two):
        assert not [path for path in folder.iterdir() if path.name.startswith("nowhere")]
        steps = [line["step"] for line in convnets.training.journal.read_metrics(folder / "run")]
        assert steps == sorted(steps)
        assert steps.count(3) == 2  # one line of training, one of evaluation, of whatever processes


def test_what_several_processes_cannot_do_is_refused_on_each(two):
    for index in range(2):
        devices, batch, pmap, again = (two / f"refusals{index}").read_text().splitlines()
        assert devices == "3 devices were asked for; there are 2"
        assert batch.startswith("a batch of 25 examples does not divide over 2 devices")
        assert pmap.startswith("pmap is for the devices of one process")
        assert again == "this process is connected already"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("127.0.0.1:8476", 2, 2), "process_id is from 0 to 1 in a run of 2 processes, not 2"),
        (("127.0.0.1:8476", 2, -1), "process_id is from 0 to 1"),
        (("127.0.0.1:8476", 0, 0), "num_processes is at least 1, not 0"),
        (("127.0.0.1", 2, 1), "the coordinator is HOST:PORT, as 10.0.0.1:8476, not '127.0.0.1'"),
        (("127.0.0.1:8476", None, 1), r"give num_processes, for no cluster \(.*\) was found"),
        ((), "give coordinator and num_processes and process_id, for no cluster"),
    ],
)
def test_what_does_not_fit_together_is_refused_before_anything_starts(given, message):
    with pytest.raises(convnets.UserError, match=message):
        parallel.connect(*given)


def test_a_cluster_is_detected(monkeypatch):
    """The variables of a Slurm step, as JAX reads them."""
    for name, value in {
        "SLURM_JOB_ID": "4096",
        "SLURM_STEP_NODELIST": "node[07-08]",
        "SLURM_NTASKS": "2",
        "SLURM_PROCID": "1",
        "SLURM_LOCALID": "0",
        "SLURM_STEP_NUM_NODES": "2",
    }.items():
        monkeypatch.setenv(name, value)
    assert parallel.detect_cluster() == ("node07:61440", 2, 1, [0])
    assert parallel.detect_cluster("10.0.0.1:8476")[:3] == ("10.0.0.1:8476", 2, 1)


def test_a_process_by_itself_waits_for_nobody():
    assert not parallel.is_connected()
    parallel.wait_for_others()
    tree = {"x": np.ones(2)}
    assert parallel.broadcast_arrays(tree) is tree
    with pytest.raises(ZeroDivisionError), parallel.ending_together():
        raise ZeroDivisionError
