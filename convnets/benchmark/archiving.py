"""Measurements as files."""

import contextlib
import json
from pathlib import Path

from ..errors import UserError


def require_writable(path: str | Path) -> None:
    """Refuses, before anything is measured, a file that could not be written afterwards.

    Raises: UserError.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"cannot write to {path}: it is a folder")
    with _telling(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _beside(path)
        temporary.touch()
        temporary.unlink()


def write_json(path: str | Path, found: dict) -> None:
    """Writes a file as a whole or not at all.

    Raises: UserError.
    """
    path = Path(path)
    with _telling(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _beside(path)
        temporary.write_text(json.dumps(found, indent=1) + "\n")
        temporary.replace(path)


def _beside(path):
    return path.with_name(path.name + ".tmp")


@contextlib.contextmanager
def _telling(path):
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write to {path}: {error.strerror}") from None
