"""A shard's file, from which it is restored when its process dies."""

import json
import os
from pathlib import Path

import jax
import numpy as np
import optax

from ..errors import UserError, first_line
from .parameter_server import Counts, Shard, join, on_host
from .partition import by_path

TREES = ("params", "batch_stats", "opt_state")


def shard_file(folder, index: int) -> Path:
    """Where a shard's file lies."""
    return Path(folder) / f"shard-{index}.safetensors"


def write_shard(path, shard: Shard) -> None:
    """Writes a shard, whole or not at all.

    Raises: UserError where the file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    arrays = {
        f"{name}/{inner}": np.array(x, order="C")
        for name, tree in zip(TREES, on_host(shard[:3]))
        for inner, x in by_path(tree).items()
    }
    temporary = Path(f"{path}.tmp")
    try:
        temporary.parent.mkdir(parents=True, exist_ok=True)
        save_file(arrays, temporary, {"counts": json.dumps(counts_to_json(shard.counts))})
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        why = getattr(error, "strerror", None) or first_line(error)
        raise UserError(f"cannot write {path}: {why}") from error


def read_shard(path, optimizer: optax.GradientTransformation) -> Shard:
    """The shard that a file holds.

    Args:
      path: of the file.
      optimizer: the one that it was written under.

    Raises: UserError where the file cannot be read or is of another optimizer.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            counts = counts_from_json(json.loads(file.metadata()["counts"]))
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} holds no shard: {first_line(error)}") from error

    def part(name):
        prefix = f"{name}/"
        return {
            inner.removeprefix(prefix): x for inner, x in arrays.items() if inner.startswith(prefix)
        }

    params, batch_stats, remembered = (part(name) for name in TREES)
    params, batch_stats = join([params]), join([batch_stats])
    template = jax.eval_shape(optimizer.init, params)
    wanted = by_path(template)
    if wanted.keys() != remembered.keys():
        raise UserError(f"{path} is of another optimizer: it remembers {sorted(remembered)[:3]}")
    leaves = [remembered[inner] for inner in wanted]
    opt_state = jax.tree.unflatten(jax.tree.structure(template), leaves)
    return Shard(params, batch_stats, opt_state, counts)


def counts_to_json(counts: Counts) -> dict:
    """Counts as JSON data.

    >>> counts = Counts((3, 1), applied=4, staleness={0: 1, 1: 3})
    >>> counts_from_json(json.loads(json.dumps(counts_to_json(counts)))) == counts
    True
    """
    staleness = {str(age): many for age, many in counts.staleness.items()}
    return counts._asdict() | {"staleness": staleness}


def counts_from_json(found: dict) -> Counts:
    """Counts out of JSON data, whose keys are text."""
    staleness = {int(age): many for age, many in found["staleness"].items()}
    return Counts(**{**found, "numbers": tuple(found["numbers"]), "staleness": staleness})
