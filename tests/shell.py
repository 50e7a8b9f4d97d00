"""Running the command `convnets` as a shell would."""

import os
import subprocess
import sys
from pathlib import Path

COMMAND = str(Path(sys.executable).parent / "convnets")


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
