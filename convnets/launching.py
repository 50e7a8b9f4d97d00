"""Several processes of one training on this machine, started, watched and started again."""

import ctypes
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from .errors import UserError

ENDING = 60.0  # seconds that the others have to end, once one has failed
LOOKING = 0.05  # seconds between two looks at the processes
USERS_OWN = 2  # exit code of what the user has to mend, which starting again does not
DIE_WITH_PARENT = 1  # of prctl, in linux/prctl.h
SIGNALS = (signal.SIGINT, signal.SIGTERM)


def launch(
    command: Sequence[str], processes: int, *, restarts: int = 0, devices_per_process: int = 1
) -> int:
    """Runs `convnets train` in several processes of this machine, which train as one.

    Args:
      command: `["train", …]`, without what names the processes.
      processes: how many.
      restarts: how often to start all again when one has failed: with `--resume` where there is a
        workdir with a run, else from the beginning.
      devices_per_process: devices of each: its share of the machine's accelerators, else of CPU
        devices that are made for it. Processes share the cores evenly.

    Process 0's output is shown, and the errors of another one that fails first. SIGINT and SIGTERM
    go to all of them, which stop after the same step; that is waited for without limit. When one
    fails the others end by themselves; after 60 s they are killed.

    Returns: 0, or the exit code of the process that failed first; 128 and more for a signal.

    Raises: UserError for another command, no process, or options that are decided here.
    """
    _require_possible(command, processes, restarts, devices_per_process)
    received = []
    previous = {
        number: signal.signal(number, lambda number, frame: received.append(number))
        for number in SIGNALS
    }
    try:
        while True:
            port = find_free_port()
            code = _run_once(command, processes, devices_per_process, port, received)
            if code == USERS_OWN and not received and _is_taken(port):
                _say(f"another program has taken port {port}; starting all again at another port")
                continue
            if code in (0, USERS_OWN) or received or not restarts:
                return code
            restarts -= 1
            command = _again(command, code)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def make_launch(command: Sequence[str]):
    """The command `launch` of the shell, for the words that came after its `--`."""

    def launch_command(processes: int, restarts: int = 0, devices_per_process: int = 1) -> int:
        """Train in several processes of this machine: convnets launch --processes N -- train ….

        What follows -- is the command of each, without what names the processes. They train as
        one, and stop together. Process 0's output is shown.

        Args:
          processes: How many.
          restarts: How often all are started again when one has failed, with --resume where the
            workdir holds a run.
          devices_per_process: Devices of each: accelerators, else of the CPU.
        """
        return launch(
            command, processes, restarts=restarts, devices_per_process=devices_per_process
        )

    launch_command.__name__ = "launch"
    return launch_command


class _Child(NamedTuple):
    index: int
    process: subprocess.Popen
    errors: object  # the file of its standard error, None where it is shown


def _require_possible(command, processes, restarts, devices_per_process):
    if list(command[:1]) != ["train"]:
        raise UserError(
            "launch starts trainings: write convnets launch --processes N -- train and its options"
        )
    for option in ("--coordinator", "--num-processes", "--process-id"):
        if any(word.split("=")[0] == option for word in command):
            raise UserError(f"launch gives {option} to each process; leave it out")
    counts = {"processes": processes, "devices_per_process": devices_per_process}
    for name, count in counts.items():
        if count < 1:
            raise UserError(f"{name} is at least 1, not {count}")
    if restarts < 0:
        raise UserError(f"restarts must not be negative, as {restarts} is")


def find_free_port() -> int:
    """A port of the loopback address that nobody listens on.

    >>> 0 < find_free_port() < 2**16
    True
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def _is_taken(port) -> bool:
    """Whether another program listens where process 0 was to, once that has ended."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return True
    return False


def _run_once(command, processes, devices, port, received) -> int:
    """Starts all processes and waits for their end; the exit code of the first that failed."""
    children = []
    try:
        for index in range(processes):
            children.append(_start(command, index, processes, devices, port))
        return _wait(children, received)
    finally:
        _kill(children)
        for child in children:
            if child.errors is not None:
                child.errors.close()


def _start(command, index, processes, devices, port):
    words = ["--coordinator", f"127.0.0.1:{port}", "--num-processes", f"{processes}"]
    words += ["--process-id", f"{index}"]
    errors = None if index == 0 else tempfile.TemporaryFile("w+")  # noqa: SIM115
    process = subprocess.Popen(
        [sys.executable, "-m", "convnets", *command, *words],
        stdin=subprocess.DEVNULL,
        stdout=None if index == 0 else subprocess.DEVNULL,
        stderr=errors,
        env=_environment(os.environ, index, processes, devices),
        start_new_session=True,  # Ctrl-C in a terminal comes here, and from here to each of them
        preexec_fn=_die_with_parent,
    )
    return _Child(index, process, errors)


def _environment(given, index, processes, devices) -> dict:
    """A child's environment: its devices, and its share of the cores."""
    flags = re.sub(r"--xla_force_host_platform_device_count=\d+", "", given.get("XLA_FLAGS", ""))
    first = index * devices
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = str(max(1, cores // processes))
    return {
        **given,
        "XLA_FLAGS": f"{flags} --xla_force_host_platform_device_count={devices}".strip(),
        "JAX_LOCAL_DEVICE_IDS": ",".join(str(first + i) for i in range(devices)),
        "NCCL_SOCKET_IFNAME": given.get("NCCL_SOCKET_IFNAME", "lo"),
        "NPROC": given.get("NPROC", threads),  # of XLA
        "OMP_NUM_THREADS": given.get("OMP_NUM_THREADS", threads),
    }


def _die_with_parent():
    """In the child: SIGTERM, upon which a training saves, when the launcher is killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGTERM)


def _wait(children, received) -> int:
    """Until all have ended, passing signals on; kills those that outlive a failed one too long."""
    passed, failed, deadline = 0, None, None
    while True:
        for number in received[passed:]:
            _send(children, number)
            passed += 1
        running = [child for child in children if child.process.poll() is None]
        ended = [child for child in children if child.process.returncode]
        if failed is None and ended:
            failed, deadline = ended[0], time.monotonic() + ENDING
            _tell(failed, clean=bool(received))
        if not running:
            return 0 if failed is None else _code(failed)
        if deadline is not None and not received and time.monotonic() > deadline:
            names = ", ".join(str(child.index) for child in running)
            _say(f"killed what had not ended within {ENDING:g} s: process {names}")
            _kill(running)
        time.sleep(LOOKING)


def _send(children, number):
    for child in children:
        if child.process.poll() is None:
            child.process.send_signal(number)


def _kill(children):
    _send(children, signal.SIGKILL)
    for child in children:
        child.process.wait()


def _tell(child, clean):
    """What a child that failed has said, unless it was seen; nothing of one that was stopped, and
    of what the user has to mend no more than that."""
    if clean and _code(child) > 128:
        return
    if _code(child) != USERS_OWN:
        _say(f"process {child.index} (pid {child.process.pid}) ended with exit code {_code(child)}")
    if child.errors is not None:
        child.errors.seek(0)
        sys.stderr.write(child.errors.read())
        sys.stderr.flush()


def _code(child) -> int:
    code = child.process.returncode
    return 128 - code if code < 0 else code


def _again(command, code):
    """The command to start again with."""
    folder = _value_of(command, "--workdir")
    if folder is not None and Path(folder, "config.json").exists():
        _say("starting all again, from the last checkpoint")
        return [*command, *(() if "--resume" in command else ("--resume",))]
    why = "there is no workdir" if folder is None else "the workdir holds no run yet"
    _say(f"starting all again, from the beginning, for {why}")
    return command


def _value_of(command, option) -> str | None:
    """The value of an option, given as one word or as two; the last where there are several."""
    value = None
    for word, after in zip(command, [*command[1:], None]):
        name, equals, joined = word.partition("=")
        if name == option:
            value = joined if equals else after
    return value


def _say(text):
    print(f"convnets launch: {text}", file=sys.stderr, flush=True)
