"""Modules, functions and their options in words that are the same in every process."""

import dataclasses
from collections.abc import Mapping
from functools import partial

import flax.linen as nn


def describe(x) -> str:
    """What something is made of: partials and modules by their fields, functions by their names.

    What is of another make says of itself what its `repr` does.

    >>> describe([len, 2.0])
    "['builtins.len', '2.0']"
    """
    if isinstance(x, partial):
        given = [describe(x.args), describe(x.keywords)]
        return f"{describe(x.func)}{given}"
    if isinstance(x, nn.Module):
        names = [field.name for field in dataclasses.fields(x)]
        fields = {name: getattr(x, name) for name in names if name not in ("name", "parent")}
        return f"{type(x).__name__}{describe(fields)}"
    if isinstance(x, Mapping):
        return str({name: describe(value) for name, value in sorted(x.items())})
    if isinstance(x, tuple | list):
        return str([describe(value) for value in x])
    if callable(x):
        return (
            f"{x.__module__}.{x.__qualname__}" if hasattr(x, "__qualname__") else type(x).__name__
        )
    return repr(x)
