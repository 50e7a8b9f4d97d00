"""Running the command `convnets` as a shell would, or in this process."""

import os
import subprocess
import sys
from pathlib import Path

from convnets import cli

COMMAND = str(Path(sys.executable).parent / "convnets")


def flags_for_one_device() -> str:
    """`XLA_FLAGS` of the tests, with as many devices as there are."""
    flags = os.environ["XLA_FLAGS"].split()
    return " ".join(flag for flag in flags if "device_count" not in flag)


def start(*args, **environment) -> subprocess.Popen:
    """The command under way, its output in pipes."""
    return subprocess.Popen(
        [COMMAND, *map(str, args)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def run(*args, code=0, **environment) -> tuple[str, str]:
    """Standard output and error of the command, which ends with the given exit code."""
    process = start(*args, **environment)
    out, error = process.communicate(timeout=300)
    assert process.returncode == code, f"exit code {process.returncode}:\n{out}\n{error}"
    assert "Traceback" not in out + error, error
    return out, error


def kill(process) -> None:
    """Ends the command at once, as `kill -9`."""
    process.kill()
    process.communicate()


def call(capsys, *args, code=0):
    """Output and error of a command in this process."""
    try:
        found = cli.main(list(map(str, args)))
    except SystemExit as stop:
        found = stop.code
    out, error = capsys.readouterr()
    assert found == code, out + error
    return out, error


def refused(capsys, *args):
    """The one short message of a command that a user got wrong."""
    out, error = call(capsys, *args, code=2)
    assert "Traceback" not in out + error
    lines = error.splitlines()  # our own message is one line, the option parser's a small box
    assert len(lines) == 1 or (len(lines) <= 13 and "For full helptext" in error), error
    assert out == ""
    return error
