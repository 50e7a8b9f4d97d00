"""The program of a model: its operations, and the module that each of them stands in."""

import re
from collections.abc import Iterator

import flax.linen as nn
import jax
from jax.extend.core import ClosedJaxpr, Jaxpr


def trace(function, *arguments):
    """Traces a function that applies a model, without running it.

    Args:
      function: of arrays, or of trees of them.
      arguments: arrays, or `jax.ShapeDtypeStruct` in their place.

    Returns: the calls of modules, path -> (module, shapes of the outputs), in their order; and the
    program, a `Jaxpr`, whose operations carry the path of their module (see `path_of`).
    """
    calls = {}

    def record(next_function, args, kwargs, context):
        if context.method_name != "__call__":
            return next_function(*args, **kwargs)
        path = "/".join(context.module.path)
        calls.setdefault(path, None)  # before the calls inside this one
        with jax.named_scope(f"<{path}>"):
            outputs = next_function(*args, **kwargs)
        shapes = [jax.typeof(x) for x in jax.tree.leaves(outputs)]
        calls[path] = (context.module, shapes)
        return outputs

    with nn.intercept_methods(record):
        jaxpr = jax.make_jaxpr(function)(*arguments)
    return calls, jaxpr.jaxpr


def path_of(equation, outside: str) -> str:
    """The path of the innermost module that an operation stands in, or that of its program."""
    scopes = re.findall("<([^<>]*)>", str(equation.source_info.name_stack))
    return scopes[-1] if scopes else outside


def programs_of(equation) -> Iterator[Jaxpr]:
    """The programs within an operation: a jitted function, the body of a loop, branches."""
    for value in equation.params.values():
        for part in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(part, ClosedJaxpr):
                yield part.jaxpr
            elif isinstance(part, Jaxpr):
                yield part
