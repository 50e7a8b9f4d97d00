"""A state as a flat dict of NumPy arrays by path, as checkpoints keep it, and its hashes."""

import hashlib
import json

import jax
import numpy as np

from ..errors import UserError


def flatten(state) -> dict[str, np.ndarray]:
    """The arrays of a tree by their paths, joined with dots."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    return {_path(path): np.asarray(leaf) for path, leaf in leaves}


def unflatten(template, arrays: dict[str, np.ndarray], what: str, *, partial: bool = False):
    """The tree of the template's structure with the given arrays; `what` names them in errors.

    Raises: UserError where paths, shapes or types are others.
    """
    leaves, treedef = jax.tree_util.tree_flatten_with_path(template)
    wanted = {_path(path): leaf for path, leaf in leaves}
    arrays = {
        **{path: np.zeros(x.shape, x.dtype) for path, x in wanted.items() if x.size == 0},
        **arrays,
    }
    missing = sorted(wanted.keys() - arrays.keys())
    unused = [] if partial else sorted(arrays.keys() - wanted.keys())
    if missing or unused:
        raise UserError(
            f"{what} is of another model, optimizer or ema: "
            f"missing {missing[:3] or 'nothing'}, not used {unused[:3] or 'nothing'}"
        )
    for path, leaf in wanted.items():
        found = arrays[path]
        if found.shape != leaf.shape or found.dtype != leaf.dtype:
            raise UserError(
                f"{what} is of another model: {path} should be {leaf.dtype}"
                f"{list(leaf.shape)}, it is {found.dtype}{list(found.shape)}"
            )
    return jax.tree.unflatten(treedef, [arrays[path] for path in wanted])


def _path(path) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def is_broken(path: str, array: np.ndarray) -> bool:
    """Whether there is a NaN; or, but for what an optimizer remembers, an infinite number."""
    if path.startswith("opt_state."):  # a plateau's best value is infinite at first
        return bool(np.any(np.isnan(array)))
    return not np.all(np.isfinite(array))


def hash_array(array: np.ndarray) -> str:
    """A hash of an array's type, shape and values."""
    array = np.ascontiguousarray(array)
    head = f"{array.dtype}{array.shape}".encode()
    return hashlib.blake2b(head + array.tobytes(), digest_size=16).hexdigest()


def hash_json(data) -> str:
    """A hash of JSON data, whatever the order of its names."""
    text = json.dumps(data, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
