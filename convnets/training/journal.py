"""What a run writes down: `config.json` once, `metrics.jsonl` line by line."""

import contextlib
import json
import math
import os
from pathlib import Path

from ..errors import UserError
from .reading import satisfies


def open_run(workdir, config: dict) -> None:
    """Starts a run in a folder, made when it is not there, by writing its `config.json`.

    Raises: UserError when the folder holds another run, or cannot be written.
    """
    workdir = Path(workdir)
    if holds_run(workdir):
        raise UserError(
            f"{workdir} holds a run already; go on with it (--resume) or take another folder"
        )
    write_config(workdir, config)


@contextlib.contextmanager
def locked(workdir):
    """Keeps the folder to this process. Raises UserError while another one trains in it."""
    try:
        import fcntl
    except ImportError:  # no such locks on Windows
        yield
        return
    folder = os.open(workdir, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another process is training in {workdir}") from None
        except OSError:
            pass  # a file system without locks
        yield
    finally:
        os.close(folder)


def holds_run(workdir) -> bool:
    """Whether a run has been started in the folder."""
    workdir = Path(workdir)
    return any((workdir / name).exists() for name in ("config.json", "metrics.jsonl"))


def write_config(workdir, config: dict) -> None:
    """Writes `config.json`, whole or not at all."""
    workdir = Path(workdir)
    temporary = workdir / "config.json.tmp"
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(config, indent=1) + "\n")
        temporary.replace(workdir / "config.json")
    except OSError as error:
        why = "it is a file, not a folder" if workdir.is_file() else error.strerror
        raise UserError(f"cannot write to {workdir}: {why}") from error


def read_config(workdir) -> dict:
    """The config that a run was started with.

    Raises: UserError when the folder holds no run, or a config that is not one.
    """
    path = Path(workdir) / "config.json"
    try:
        config = json.loads(path.read_text())
    except OSError as error:
        raise UserError(f"{workdir} holds no run: {path} cannot be read") from error
    except ValueError as error:
        raise UserError(f"{path} is not the config of a run: {error}") from error
    wrong = [name for name, holds in CONFIG.items() if not satisfies(config, holds)]
    if wrong:
        raise UserError(f"{path} is not the config of a run: see its {', '.join(wrong)}")
    return config


# What a config has at least, beside the options.
CONFIG = {
    "model": lambda config: isinstance(config["model"], str),
    "data": lambda config: isinstance(config["data"], str),
    "start": lambda config: isinstance(config["start"], int),
    "image_shape": lambda config: len(list(map(range, config["dataset"]["image_shape"]))) == 3,
    "class_names": lambda config: "".join(config["dataset"]["class_names"]) != "",
    "normalization": lambda config: all(
        math.isfinite(x) for values in config["dataset"]["normalization"].values() for x in values
    ),
}


def append(workdir, line: dict) -> None:
    """Adds one line to `metrics.jsonl`, so that it survives the process from here on. What is not
    finite is null there: JSON has no other word for it."""
    try:
        with open(Path(workdir) / "metrics.jsonl", "a") as file:
            file.write(_to_text(line))
    except OSError as error:
        raise UserError(f"cannot write to {workdir}: {error.strerror}") from error


def read_metrics(workdir) -> list[dict]:
    """The whole lines of `metrics.jsonl`, with NaN for null; a torn last line is left out.

    Raises: UserError for any other line that is none of a run's.
    """
    path = Path(workdir) / "metrics.jsonl"
    if not path.exists():
        return []
    try:
        whole, _, _ = path.read_text(errors="replace").rpartition("\n")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    lines = []
    for number, text in enumerate(whole.splitlines(), 1):
        try:
            line = json.loads(text)
            lines.append({name: math.nan if x is None else x for name, x in line.items()})
            if not isinstance(lines[-1]["step"], int):
                raise TypeError("a step is an integer")
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(
                f"line {number} of {path} is not a run's; remove it to go on"
            ) from error
    return lines


def rewind(workdir, step: int) -> list[dict]:
    """Removes the lines after a step and a torn last one; returns those that stay."""
    lines = [line for line in read_metrics(workdir) if line["step"] <= step]
    path = Path(workdir) / "metrics.jsonl"
    temporary = path.with_suffix(".tmp")
    try:
        temporary.write_text("".join(map(_to_text, lines)))
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"cannot write to {workdir}: {error.strerror}") from error
    return lines


def _to_text(line: dict) -> str:
    """A line of `metrics.jsonl`, with its end."""
    numbers = {
        name: None if isinstance(x, float) and not math.isfinite(x) else x
        for name, x in line.items()
    }
    return json.dumps(numbers, allow_nan=False) + "\n"
