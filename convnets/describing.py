"""Modules, functions and their options in words that are the same in every process."""

import dataclasses
from collections.abc import Mapping
from functools import partial

import flax.linen as nn


def describe(x) -> str:
    """What something is made of, as one would write it: partials and modules with their fields, and
    functions by their names, with what they keep of the one that made them.

    What is of another make says of itself what its `repr` does.

    >>> describe([partial(describe, x=2.0), len])
    '(describe(x=2.0), len)'
    """
    if isinstance(x, partial):
        given = ", ".join(filter(None, [", ".join(map(describe, x.args)), _options(x.keywords)]))
        return f"{describe(x.func)}({given})"
    if isinstance(x, nn.Module):
        names = [field.name for field in dataclasses.fields(x)]
        fields = {name: getattr(x, name) for name in names if name not in ("name", "parent")}
        return f"{type(x).__name__}({_options(fields)})"
    if isinstance(x, Mapping):
        return f"{{{_options(x)}}}"
    if hasattr(x, "_asdict"):  # a named tuple
        return f"{type(x).__name__}({_options(x._asdict())})"
    if isinstance(x, tuple | list):
        return f"({', '.join(map(describe, x))})"
    if callable(x):
        kept = _kept(x)
        name = getattr(x, "__qualname__", type(x).__name__).replace(".<locals>", "")
        return f"{name}({_options(kept)})" if kept else name
    return repr(x)


def _options(options) -> str:
    return ", ".join(f"{name}={describe(options[name])}" for name in sorted(options))


def _kept(function) -> dict:
    """What an inner function keeps of the one that made it, by name."""
    names = function.__code__.co_freevars if hasattr(function, "__code__") else ()
    kept = {}
    for name, cell in zip(names, getattr(function, "__closure__", None) or ()):
        if cell.cell_contents is not function:
            kept[name] = cell.cell_contents
    return kept
