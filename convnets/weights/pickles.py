"""Pickles of state dicts, read without running anything.

A pickle is a program: whoever unpickles a file does what it says. Here its instructions are read
one by one, and only those are followed that put together dicts, lists, tuples, numbers, texts and
descriptions of tensors; every other name that it calls for is refused.
"""

import pickletools
from typing import NamedTuple

from ..errors import UserError

DTYPES = {
    "Double": "float64",
    "Float": "float32",
    "Half": "float16",
    "BFloat16": "bfloat16",
    "Long": "int64",
    "Int": "int32",
    "Short": "int16",
    "Char": "int8",
    "Byte": "uint8",
    "Bool": "bool",
    "ComplexFloat": "complex64",
    "ComplexDouble": "complex128",
}  # of PyTorch's storages, by what stands before `Storage`
NAMES = {f"torch.{name}Storage": dtype for name, dtype in DTYPES.items()}
NAMES |= {f"torch.{name}": name for name in [*DTYPES.values(), "uint16", "uint32", "uint64"]}
NAMES |= {"torch.storage.UntypedStorage": "uint8"}
VALUES = ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT")
VALUES += ("BINUNICODE", "SHORT_BINUNICODE", "BINSTRING", "SHORT_BINSTRING")
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}


class Storage(NamedTuple):
    """A row of numbers elsewhere in the file; its tensors are views of it.

    Attributes:
      key: what the file calls it.
      dtype: name of the numbers' type; `uint8` where only its tensors tell.
      size: how many numbers the whole row has.
      start: where in it the tensors' offsets count from.
    """

    key: str
    dtype: str
    size: int
    start: int = 0


class Tensor(NamedTuple):
    """A view of a storage; offset and strides count numbers of its own type."""

    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Name(NamedTuple):
    """A known name of another module, not yet called."""

    name: str


def load_pickle(file, storages: dict[str, Storage] | None = None):
    """The next pickle of a file of bytes, which is left behind its end; tensors as `Tensor`.

    Args:
      file: has `read`, `readline` and `tell`.
      storages: to be filled with every storage that the pickle speaks of, by key.

    Raises: UserError for a name or an instruction that no state dict of tensors needs; other
    exceptions, of many kinds, for what is no pickle.

    >>> import io, pickle
    >>> load_pickle(io.BytesIO(pickle.dumps({"epoch": 3, "losses": [0.5, 0.25]}, protocol=2)))
    {'epoch': 3, 'losses': [0.5, 0.25]}
    >>> load_pickle(io.BytesIO(pickle.dumps(eval, protocol=2)))
    Traceback (most recent call last):
    ...
    convnets.errors.UserError: its pickle asks for '__builtin__.eval', ...
    """
    stack, marks, memo = [], [], {}
    storages = {} if storages is None else storages
    for opcode, argument, _ in pickletools.genops(file):
        match opcode.name:
            case name if name in VALUES:
                stack.append(argument)
            case name if name in CONSTANTS:
                stack.append(CONSTANTS[name])
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "MARK":
                marks.append(len(stack))
            case "TUPLE":
                stack.append(tuple(_cut(stack, marks.pop())))
            case "TUPLE1" | "TUPLE2" | "TUPLE3" as name:
                stack.append(tuple(_cut(stack, len(stack) - int(name[-1]))))
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_DICT":
                stack.append({})
            case "APPEND" | "APPENDS" as name:
                items = _cut(stack, marks.pop() if name == "APPENDS" else -1)
                stack[-1].extend(items)
            case "SETITEM" | "SETITEMS" as name:
                items = _cut(stack, marks.pop() if name == "SETITEMS" else -2)
                _insert(stack[-1], zip(items[::2], items[1::2], strict=True))
            case "GLOBAL":
                stack.append(_find(argument.replace(" ", ".", 1)))
            case "STACK_GLOBAL":
                stack.append(_find(".".join(_cut(stack, -2))))
            case "REDUCE":
                called, arguments = _cut(stack, -2)
                stack.append(CALLS[called.name](*arguments))
            case "BINPERSID":
                stack.append(_storage(*stack.pop()))
                _register(stack[-1], storages)
            case "BUILD":  # attributes of an ordered dict, such as the versions of its modules
                if not all(isinstance(value, dict) for value in (stack[-2], stack.pop())):
                    raise UserError("its pickle gives attributes to what is no dict")
            case "STOP":
                return stack.pop()
            case "PROTO" | "FRAME":
                pass
            case name:
                raise UserError(f"its pickle has the instruction {name}, which no state dict needs")


def _cut(stack, start):
    """Takes off the stack what lies on it from a place on."""
    if not -len(stack) <= start <= len(stack):
        raise ValueError("its pickle takes more than there is")
    taken = stack[start:]
    del stack[start:]
    return taken


def _insert(target, items):
    for key, value in items:
        if not isinstance(key, str | int):  # anything else might be deep enough to break hashing
            raise UserError(
                f"its pickle has a key that is no text or integer: {type(key).__name__}"
            )
        if key in target:
            raise UserError(f"its pickle has the entry {key!r} twice")
        target[key] = value


def _find(name):
    if name not in NAMES and name not in CALLS:
        raise UserError(
            f"its pickle asks for {name[:100]!r}, which a state dict of tensors does not need and "
            "which is not run; save `model.state_dict()` alone, with torch.save or as safetensors"
        )
    return Name(name)


def _storage(kind, type_name, key, device, size, view=None):
    if kind != "storage" or not isinstance(key, str) or not _are_counts([size]):
        raise UserError("its pickle describes a storage in an unknown way")
    start = 0
    if view is not None:  # PyTorch 0.x: part of another storage, the root that `size` belongs to
        _, start, length = view
        if not _are_counts(view[1:]) or start + length > size:
            raise UserError(f"its storage {key} has a view beyond its end")
    return Storage(key, NAMES[type_name.name], size, start)


def _register(storage, storages):
    whole = storage._replace(start=0)
    if storages.setdefault(storage.key, whole) != whole:
        raise UserError(f"its storage {storage.key} is described in two ways")


def _tensor(storage, offset, shape, strides, dtype=None):
    right = isinstance(storage, Storage) and isinstance(shape, tuple) and isinstance(strides, tuple)
    if not right or len(shape) != len(strides) or not _are_counts([offset, *shape, *strides]):
        raise UserError("its pickle describes a tensor in an unknown way")
    dtype = storage.dtype if dtype is None else NAMES[dtype.name]
    return Tensor(storage, dtype, offset, shape, strides)


def _are_counts(values):
    return all(type(value) is int and value >= 0 for value in values)


def _ordered_dict(items=()):
    result = {}
    _insert(result, items)
    return result


def _tensor_of_untyped(storage, offset, shape, strides, gradient, hooks, dtype, *_):
    return _tensor(storage, offset, shape, strides, dtype)


CALLS = {
    "collections.OrderedDict": _ordered_dict,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": lambda *arguments: _tensor(*arguments[:4]),
    "torch._utils._rebuild_tensor_v3": _tensor_of_untyped,
    "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
}
