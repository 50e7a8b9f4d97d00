"""The calls of modules in a network: recorded in one pass, and computed again one by one."""

import enum
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

MUTABLE = ["batch_stats", "auxiliary"]


class Kind(enum.Enum):
    """What stands in a tree's place of an array."""

    FLOAT = "float"
    OTHER = "other"


FLOAT, OTHER = Kind


class Packed(NamedTuple):
    """A tree in parts: its float arrays, its other arrays, and what puts them back."""

    arrays: list
    others: list
    rest: Any


class Call(NamedTuple):
    """A module as it was called.

    Attributes:
      path: of the module, `()` for the whole network.
      module: without a parent.
      given: the arguments, `(args, kwargs)` packed.
      inner: what each module that it calls itself returned, packed, in order.
    """

    path: tuple[str, ...]
    module: nn.Module
    given: Packed
    inner: list[Packed]

    @property
    def arrays(self) -> tuple[list, list[list]]:
        """Those of the arguments, and those of what each inner module returned."""
        return self.given.arrays, [one.arrays for one in self.inner]


def is_float(leaf) -> bool:
    """Whether a leaf is an array of floats."""
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)


def pack(tree) -> Packed:
    """A tree in parts.

    >>> pack({"train": True, "x": jnp.ones(2)}).arrays
    [Array([1., 1.], dtype=float32)]
    """
    leaves, structure = jax.tree.flatten(tree)
    kinds = [FLOAT if is_float(x) else OTHER if isinstance(x, jax.Array) else x for x in leaves]
    parts = [[x for x, kind in zip(leaves, kinds) if kind is each] for each in (FLOAT, OTHER)]
    return Packed(*parts, (structure, kinds))


def unpack(packed: Packed, arrays=None):
    """The tree again, with other arrays in the place of its own where they are given."""
    structure, kinds = packed.rest
    floats, others = iter(packed.arrays if arrays is None else arrays), iter(packed.others)
    back = {FLOAT: floats, OTHER: others}
    leaves = [next(back[kind]) if isinstance(kind, Kind) else kind for kind in kinds]
    return jax.tree.unflatten(structure, leaves)


def record_calls(model, variables, images, key) -> list[Call]:
    """Every call of a module in one pass of the network in training mode, inner ones first.

    Args:
      model: called `(images, *, train)`.
      variables: of it.
      images: float `[B, H, W, C]`.
      key: of dropout.

    Raises: whatever the model raises, and JAX's UnexpectedTracerError for modules within a loop, a
    checkpoint or a jit of Flax (`nn.scan`, `nn.remat`, `nn.jit`), whose values cannot be had.
    """
    static = []

    def run(variables, images):
        static.clear()
        found, open_calls = [], []

        def note(call, args, kwargs, context):
            if context.method_name != "__call__":
                return call(*args, **kwargs)
            inner = []
            open_calls.append(inner)
            output = call(*args, **kwargs)
            open_calls.pop()
            given, returned = pack((args, kwargs)), pack(output)
            path = context.module.path
            module = context.module.clone(parent=None, name=None) if path else model
            static.append((path, module, given.rest, [one.rest for one in inner]))
            found.append((given[:2], [one[:2] for one in inner]))
            if open_calls:
                open_calls[-1].append(returned)
            return output

        with nn.intercept_methods(note):
            rngs = {"dropout": key}
            model.apply(variables, images, train=True, rngs=rngs, mutable=MUTABLE)
        return found

    arrays = jax.jit(run)(variables, images)
    return [
        Call(
            path,
            module,
            Packed(*given, rest),
            [Packed(*one, each) for one, each in zip(inner, inner_rest)],
        )
        for (path, module, rest, inner_rest), (given, inner) in zip(static, arrays)
    ]


def call_alone(call: Call, variables, given, inner, key) -> list:
    """What a module computes by itself: the modules that it calls are cut out, and return what they
    are said to.

    Args:
      call: from `record_calls`.
      variables: of the module.
      given: float arrays in the place of those among its arguments.
      inner: lists of float arrays in the place of what its modules returned.
      key: of dropout.

    Returns: the float arrays of what it returns and of what it hands to its modules.
    """
    handed, returned = [], iter(zip(call.inner, inner))

    def cut(next_call, args, kwargs, context):
        if context.method_name != "__call__" or context.module.path == ():
            return next_call(*args, **kwargs)
        handed.append((args, kwargs))
        return unpack(*next(returned))

    args, kwargs = unpack(call.given, given)
    with nn.intercept_methods(cut):
        output, _ = call.module.apply(
            variables, *args, **kwargs, rngs={"dropout": key}, mutable=MUTABLE
        )
    return [leaf for leaf in jax.tree.leaves((output, handed)) if is_float(leaf)]


def variables_of(variables, path) -> dict:
    """Those of the module at a path.

    >>> variables_of({"params": {"conv1": {"bias": 0}}}, ("conv1",))
    {'params': {'bias': 0}}
    """
    own = {}
    for name, tree in variables.items():
        for key in path:
            tree = tree.get(key, {})
        if tree:
            own[name] = tree
    return own
