"""A compiled program with its data on the device, ready to run."""

import jax

from .memory import peak_bytes, require_memory
from .timing import Contestant
from .workloads import Program


def start(program: Program, name: str = "convnets") -> Contestant:
    """Places state and batch on the device and does a first step.

    A step of training takes the state that the one before gave. In inference on the CPU each step
    is waited for, as a user of its logits would.

    Raises: UserError where the program needs more memory than there is.
    """
    require_memory(program)
    run = (_train if program.workload.mode == "train" else _infer)(program)
    run(1)
    form = program.workload.lowering or ""
    return Contestant(name, run, form, program.compile_seconds, peak_bytes(program))


def _train(program):
    compiled = program.compiled
    state, batch = program.arguments()

    def run(steps):
        nonlocal state
        for _ in range(steps):
            state, _ = compiled(state, batch)
        jax.block_until_ready(state)

    return run


def _infer(program):
    compiled, waits = program.compiled, jax.default_backend() == "cpu"
    variables, images = program.arguments()

    def run(steps):
        logits = None
        for _ in range(steps):
            logits = compiled(variables, images)
            if waits:
                logits.block_until_ready()
        jax.block_until_ready(logits)

    return run
