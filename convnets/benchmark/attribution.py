"""What kind of work each operation of a compiled program is, told from the program's text."""

import re
from collections import defaultdict
from typing import NamedTuple

KINDS = (
    "convolution",
    "convolution_input_gradient",
    "convolution_kernel_gradient",
    "matrix_product",
    "normalization",
    "pooling",
    "elementwise",
    "optimizer",
    "copy",
    "other",
)

# Ours as they are named in any lowering, then cuDNN's.
PRIMITIVES = {
    "convolution_input_gradient": "convolution_input_gradient",
    "convolution_kernel_gradient": "convolution_kernel_gradient",
    "convBackwardInput": "convolution_input_gradient",
    "convBackwardFilter": "convolution_kernel_gradient",
    "convForward": "convolution",
    "convBiasActivationForward": "convolution",
}
SOURCES = {  # files of ours whose operations are of one kind
    "/normalization.py": "normalization",
    "/channels.py": "normalization",
    "/pooling.py": "pooling",
    "/maxima.py": "pooling",
}
MOVES = {"copy", "transpose", "bitcast", "reshape", "broadcast", "slice", "concatenate", "pad"}
SILENT = {"parameter", "constant", "tuple", "get-tuple-element", "iota", "convert"}
CONTAINERS = {"while", "call", "conditional", "async-start", "async-done"}

INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.-]+) = \S.*?[\])}] ([a-z][\w-]*)\((.*)$")


class Operation(NamedTuple):
    """One instruction of the program.

    Attributes:
      opcode: XLA's name of what it does.
      operands: names of the instructions whose results it takes.
      calls: the computations inside it, such as a fusion's.
      scope: where in our program it comes from, as `jit(step)/jvp(Classifier)/…/dot_general`;
        empty where the compiler made it up.
      files: those that the call passed through, innermost first, as far as they are known.
      target: the library function that it calls, or empty.
    """

    opcode: str
    operands: tuple[str, ...]
    calls: tuple[str, ...]
    scope: str
    files: tuple[str, ...]
    target: str


class Program(NamedTuple):
    """The operations of a compiled program by name, those of each computation, and their users."""

    operations: dict[str, Operation]
    computations: dict[str, list[str]]
    users: dict[str, list[str]]


def read_program(text: str) -> Program:
    """Reads `compiled.as_text()`.

    >>> compiled = jax.jit(jnp.sin).lower(1.0).compile()
    >>> "sine" in {o.opcode for o in read_program(compiled.as_text()).operations.values()}
    True
    """
    files_of = _read_frames(text)
    operations, computations, users = {}, defaultdict(list), defaultdict(list)
    computation = ""
    for line in text.splitlines():
        if line.endswith("{") and not line.startswith(" "):
            computation = line.removeprefix("ENTRY ").split()[0].lstrip("%")
            continue
        match = INSTRUCTION.match(line)
        if match is None:
            continue
        name, opcode, rest = match.groups()
        frame = re.search(r"stack_frame_id=(\d+)", rest)
        operation = Operation(
            opcode,
            tuple(re.findall(r"%([\w.-]+)", _arguments(rest))),
            tuple(re.findall(r"(?:calls|to_apply|body)=%?([\w.-]+)", rest)),
            _quoted("op_name", rest),
            files_of.get(frame[1], ()) if frame else (_quoted("source_file", rest),),
            _quoted("custom_call_target", rest),
        )
        operations[name] = operation
        computations[computation].append(name)
        for operand in operation.operands:
            users[operand].append(name)
    return Program(operations, dict(computations), dict(users))


def classify(program: Program, *, training: bool) -> dict[str, str]:
    """The kind of every operation that does work, by name; one of `KINDS`.

    A fusion is what the heaviest part of it is: a convolution, a matrix product, or else what its
    result is for. Containers of other operations, such as loops, are left out.
    """
    return {
        name: _kind(program, name, training)
        for name, operation in program.operations.items()
        if operation.opcode not in CONTAINERS | SILENT - {"convert"}
    }


def _kind(program, name, training):
    parts = list(_parts(program, name))
    named = [part for part in parts if part.scope or part.target]
    for part in named:
        for primitive, kind in PRIMITIVES.items():
            if primitive in part.scope or primitive in part.target:
                return kind
    if any(re.search(r"/convolution(/|$)", part.scope) for part in named):
        return "convolution"
    if any(part.opcode == "convolution" for part in parts):
        return _direction(program, name, parts)
    if any(part.opcode == "dot" or _is_product(part.target) for part in parts):
        return "matrix_product"
    own = program.operations[name]
    kinds = [_of_scope(part, training) for part in ([own] if own.scope else named)]
    if all(part.opcode in MOVES | SILENT | {"fusion"} for part in parts):
        return "copy"
    return max(kinds, key=kinds.count, default="other")


def _parts(program, name):
    """An operation and those inside it."""
    operation = program.operations[name]
    yield operation
    for computation in operation.calls:
        for inner in program.computations.get(computation, ()):
            yield from _parts(program, inner)


def _direction(program, name, parts):
    """Which of its three passes XLA's own convolution is.

    Both gradients bear the same name, or, once rearranged, none; what uses them tells them apart.
    """
    scopes = [part.scope for part in parts if part.opcode == "convolution" and part.scope]
    if any("transpose(" not in scope for scope in scopes):
        return "convolution"
    used_in = set(_scopes_of_users(program, name))
    if not scopes and any("jvp(" in scope and "transpose(" not in scope for scope in used_in):
        return "convolution"
    if any("transpose(" in scope for scope in used_in):
        return "convolution_input_gradient"
    return "convolution_kernel_gradient"


def _scopes_of_users(program, name):
    """The scopes of the nearest users that have one."""
    for user in program.users.get(name, ()):
        operation = program.operations[user]
        if operation.scope:
            yield operation.scope
        else:
            scopes = [part.scope for part in _parts(program, user) if part.scope]
            yield from scopes or _scopes_of_users(program, user)


def _of_scope(part, training):
    for ending, kind in SOURCES.items():
        if any(file.endswith(ending) for file in part.files):
            return kind
    if training and "jvp(" not in part.scope:
        return "optimizer" if any("/optax/" in file for file in part.files) else "other"
    return "elementwise"


def _is_product(target):
    return "gemm" in target.lower() or "matmul" in target.lower()


def _arguments(rest):
    """What stands between the brackets of a call."""
    depth = 1
    for end, letter in enumerate(rest):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return rest[:end]
    return rest


def _quoted(field, text):
    found = re.search(rf'{field}="((?:[^"\\]|\\.)*)"', text)
    return found[1] if found else ""


def _read_frames(text):
    """The files of every stack frame and those that called it, by the frame's number."""
    tables = {}
    for table in ("FileNames", "FileLocations", "StackFrames"):
        found = re.search(rf"^{table}\n((?:\d+ .*\n)*)", text, re.MULTILINE)
        rows = found[1].splitlines() if found else []
        tables[table] = dict(row.split(" ", 1) for row in rows)
    names = {number: name.strip('"') for number, name in tables["FileNames"].items()}
    places = {
        n: re.search(r"file_name_id=(\d+)", row) for n, row in tables["FileLocations"].items()
    }
    frames = {}
    for number, row in tables["StackFrames"].items():
        location = re.search(r"file_location_id=(\d+)", row)
        parent = re.search(r"parent_frame_id=(\d+)", row)
        frames[int(number)] = (location and location[1], int(parent[1]) if parent else 0)
    shift = 1 if frames.get(1, (None, 0))[1] == 1 else 0  # parents may be counted from one

    def follow(number):
        files = []
        while number in frames:
            location, parent = frames[number]
            place = places.get(location)
            files.append(names.get(place[1], "") if place else "")
            number = min(parent - shift, number - 1)  # callers come first
        return tuple(files)

    return {str(number): follow(number) for number in frames}
