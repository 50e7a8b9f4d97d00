"""Several processes of one machine: killed, stopped, started again."""

import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest

from convnets import UserError, launching
from convnets.training import Checkpoints, journal

from . import shell
from .test_resume import assert_same_run

SETTINGS = [
    *("--model", "linear", "--steps", 400, "--batch-size", 40, "--checkpoint-every", 20),
    *("--evaluate-every", 100, "--log-every", 50, "--validation", 0.1, "--ema", 0.9),
]


def start(processes, *words, restarts=0):
    first = ("launch", "--processes", processes, "--restarts", restarts)
    return shell.start(*first, "--", "train", *words, XLA_FLAGS=shell.flags_for_one_device())


def wait_for(process, holds):
    while not holds():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def steps_in(workdir):
    names = [path.name for path in workdir.glob("checkpoints/*")]
    return sorted(int(name) for name in names if name.isdecimal())


def members_of(launcher) -> dict[int, int]:
    """The pids of a launcher's processes by their index."""
    children = f"/proc/{launcher.pid}/task/{launcher.pid}/children"
    pids = {}
    with open(children) as file:
        for pid in map(int, file.read().split()):
            with open(f"/proc/{pid}/cmdline") as line:
                words = line.read().split("\0")
            pids[int(words[words.index("--process-id") + 1])] = pid
    return pids


def kill(process, workdir, index) -> tuple[int, str]:
    """Kills one of a launcher's processes after the next checkpoint: its pid, and what is said
    until all are started again, which is to be within 60 seconds."""
    last = (steps_in(workdir) or [0])[-1]
    wait_for(process, lambda: (steps_in(workdir) or [0])[-1] > last)
    victim, begin, said = members_of(process)[index], time.monotonic(), []
    os.kill(victim, signal.SIGKILL)
    for line in process.stderr:
        said.append(line)
        if "starting all again" in line:
            break
    assert time.monotonic() - begin < 60
    return victim, "".join(said)


def test_one_of_four_killed_is_named_and_the_run_started_again_equals_another(tmp_path):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    process = start(4, "--workdir", killed, *SETTINGS, restarts=2)
    victim, said = kill(process, killed, 2)
    first, of_first = kill(process, killed, 0)
    out, error = process.communicate(timeout=600)
    assert process.returncode == 0, said + of_first + error
    assert f"process 0 (pid {first}) ended with exit code 137" in of_first
    assert "starting all again, from the last checkpoint" in of_first
    assert f"convnets launch: process 2 (pid {victim}) ended with exit code 137" in said
    assert re.search(rf"^convnets: process 2 of 4 \(.*, pid {victim}\) died; ", said, re.MULTILINE)
    assert "start all again with --resume" in said
    assert "starting all again, from the last checkpoint" in said
    assert "Traceback" not in said + error
    assert "going on from the checkpoint of step" in out
    assert out.splitlines()[-1].startswith("step 400")
    assert out.count("test loss") >= 4  # of process 0 alone: each evaluation once in each part

    process = start(4, "--workdir", whole, *SETTINGS)
    _, error = process.communicate(timeout=600)
    assert process.returncode == 0, error
    assert_same_run(killed, whole)


def test_a_signal_to_one_or_to_the_launcher_stops_all_with_a_checkpoint(tmp_path):
    endless = ("--steps", 10**6, "--schedule", "constant", "--checkpoint-every", 10**6)
    options = [*SETTINGS, *endless, "--evaluate-every", 10**6, "--workdir", tmp_path]
    process = start(2, *options)
    wait_for(process, lambda: journal.read_metrics(tmp_path))
    os.kill(members_of(process)[1], signal.SIGTERM)
    out, error = process.communicate(timeout=300)
    assert process.returncode == 128 + signal.SIGTERM, error
    (step,) = steps_in(tmp_path)
    assert out.splitlines()[-1].startswith(f"stopped by SIGTERM after step {step}; checkpoint in")

    lines = len(journal.read_metrics(tmp_path))
    process = start(2, "--resume", f"--workdir={tmp_path}")
    wait_for(process, lambda: len(journal.read_metrics(tmp_path)) > lines)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=300)
    assert process.returncode == 128 + signal.SIGINT, error
    assert "Traceback" not in error
    assert "ended with" not in error  # nothing has failed
    last = steps_in(tmp_path)[-1]
    assert last > step
    assert f"stopped by SIGINT after step {last}; checkpoint in" in out
    with Checkpoints(tmp_path / "checkpoints", read_only=True) as checkpoints:
        assert int(checkpoints._read(last)[0]["step"]) == last


def test_what_the_user_has_to_mend_is_not_started_again():
    process = start(2, "--model", "lenet6", restarts=3)
    _, error = process.communicate(timeout=300)
    assert process.returncode == 2
    assert "unknown model 'lenet6'; did you mean 'lenet5'?" in error
    assert "starting all again" not in error
    assert "ended with exit code" not in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "write convnets launch --processes N -- train"),
        (["evaluate", "--workdir", "x"], "launch starts trainings"),
        (["train", "--process-id=1"], "launch gives --process-id to each process; leave it out"),
    ],
)
def test_what_launch_does_not_start(words, message):
    with pytest.raises(UserError, match=message):
        launching.launch(words, 2)


def test_numbers_out_of_their_range(capsys):
    for options, message in [
        (("--processes", 0), "processes is at least 1, not 0"),
        (("--processes", 2, "--restarts", -1), "restarts must not be negative"),
        (("--processes", 2, "--devices-per-process", 0), "devices_per_process is at least 1"),
    ]:
        assert message in shell.refused(capsys, "launch", *options, "--", "train")
    forgotten = shell.refused(capsys, "launch", "--processes", 2, "train", "--steps", 10)
    assert "write convnets launch --processes N -- train" in forgotten


def test_the_command_to_start_again_with(tmp_path, capsys):
    again, run = launching._again, tmp_path / "run"
    plain = ["train", "--steps", "9"]
    assert again(plain, 1) == plain
    assert "from the beginning, for there is no workdir" in capsys.readouterr().err
    for words in ([*plain, "--workdir", str(run)], [*plain, f"--workdir={run}"]):
        assert again(words, 1) == words
        assert "from the beginning, for the workdir holds no run yet" in capsys.readouterr().err
    run.mkdir()
    (run / "config.json").write_text("{}")
    for words in ([*plain, "--workdir", str(run)], [*plain, f"--workdir={run}"]):
        assert again(words, 1) == [*words, "--resume"]
        assert again([*words, "--resume"], 1) == [*words, "--resume"]
    assert "from the last checkpoint" in capsys.readouterr().err


def test_a_port_that_another_program_has_taken_is_none_of_the_users(monkeypatch, capsys):
    tried = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        ports = [server.getsockname()[1], launching.find_free_port()]
        monkeypatch.setattr(launching, "find_free_port", lambda: ports[len(tried)])
        monkeypatch.setattr(launching, "_run_once", lambda *given: tried.append(given[3]) or 2)
        assert launching.launch(["train"], 2, restarts=3) == 2
    assert tried == ports
    assert f"another program has taken port {ports[0]}; starting" in capsys.readouterr().err


def test_each_process_has_its_share_of_cores_and_devices(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    given = {"XLA_FLAGS": "--xla_a=1 --xla_force_host_platform_device_count=8", "HOME": "/x"}
    made = launching._environment(given, 2, 4, 3)
    assert made["XLA_FLAGS"].split() == [
        "--xla_a=1",
        "--xla_force_host_platform_device_count=3",
    ]
    assert made["JAX_LOCAL_DEVICE_IDS"] == "6,7,8"
    assert made["NPROC"] == made["OMP_NUM_THREADS"] == "2"
    assert made["HOME"] == "/x"
    assert made["NCCL_SOCKET_IFNAME"] == "lo"
    given = {"NCCL_SOCKET_IFNAME": "eth0"}
    assert launching._environment(given, 0, 1, 1)["NCCL_SOCKET_IFNAME"] == "eth0"
    assert launching._environment({"OMP_NUM_THREADS": "5"}, 0, 16, 1)["OMP_NUM_THREADS"] == "5"
    assert launching._environment({}, 0, 16, 1)["NPROC"] == "1"


PARENT = """
import subprocess, sys, time
from convnets.launching import _die_with_parent
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"],
                         start_new_session=True, preexec_fn=_die_with_parent)
print(child.pid, flush=True)
time.sleep(600)
"""


def test_processes_end_with_a_launcher_that_is_killed():
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    for _ in range(600):
        try:
            with open(f"/proc/{child}/stat") as file:
                if file.read().rpartition(")")[2].split()[0] == "Z":
                    return
        except FileNotFoundError:
            return
        time.sleep(0.1)
    raise AssertionError("the child outlived its parent")


def start_two(*of_each):
    """`train` in two processes, each with words of its own."""
    place = ("--coordinator", f"127.0.0.1:{launching.find_free_port()}", "--num-processes", 2)
    flags = {"XLA_FLAGS": shell.flags_for_one_device()}
    return [
        shell.start("train", *words, *place, "--process-id", index, **flags)
        for index, words in enumerate(of_each)
    ]


def ends_of(processes):
    """Exit code, output and errors of each."""
    said = [process.communicate(timeout=120) for process in processes]
    assert not [error for _, error in said if "Traceback" in error]
    return [(process.returncode, *each) for process, each in zip(processes, said)]


def test_a_workdir_of_process_0_alone_is_that_of_the_run(tmp_path):
    words = ("--model", "linear", "--steps", 4, "--batch-size", 40, "--validation", 0.1)
    both = ends_of(start_two((*words, "--workdir", tmp_path), words))
    assert [code for code, *_ in both] == [0, 0], both
    assert steps_in(tmp_path) == [4]


def test_what_process_0_refuses_is_said_by_both_and_neither_is_aborted():
    for code, _, error in ends_of(start_two(*[("--workdir", "/proc/x", "--steps", 4)] * 2)):
        assert code == 2, error
        assert error == "convnets: cannot write to /proc/x: No such file or directory\n"
