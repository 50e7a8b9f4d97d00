"""A workload measured: speed, compile time, memory, arithmetic, beside a peer and by itself."""

import contextlib
import datetime
import shlex
import statistics
from collections.abc import Iterator

from ..errors import UserError, unknown
from ..ops import current_lowering, lowering
from . import flax_peer, torch_peer
from .apart import start_apart
from .arithmetic import count_flops, measure_peak
from .environment import describe_hardware, describe_versions
from .memory import predict_memory, process_peak_bytes, reset_process_peak
from .networks import describe_network
from .profiling import profile
from .running import start
from .timing import Contestant, take_turns
from .workloads import Workload, compile_program

PEERS = {"torch": torch_peer, "flax": flax_peer}


def measure(
    workload: Workload,
    *,
    against: str | None = None,
    repetitions: int = 5,
    seconds: float = 1.0,
    profiled: bool = False,
) -> dict:
    """Everything about a workload, as JSON data.

    Args:
      workload: from `create_workload`.
      against: `torch` or `flax`, the same network there, run in turn; or None.
      repetitions: how often each of them is timed.
      seconds: how long a repetition lasts, at least.
      profiled: whether to trace some steps as well, and tell their parts.

    Returns: `images_per_second`, the median, and `images_per_second_repetitions`, all of them;
    `compile_seconds`, of a cold compilation; `peak_bytes`, that the program needs, and
    `process_peak_bytes`, that the process held until then; `flops_per_second`, as `count_flops`
    counts, `peak_flops_per_second`, of a large matrix product, and `share_of_peak`; with a peer
    `peer`, the same of it, `ratio`, the median of ours over the peer's in each pair of
    repetitions, and `ratio_repetitions`; with a profile `profile`. Besides, what was measured,
    with which command, when, and on what.

    Raises: UserError for a model without such a peer, a peer that is not installed, and where
    memory does not suffice.
    """
    if repetitions < 1 or not seconds > 0:
        raise UserError(
            f"repetitions are at least 1 and seconds above 0, not {repetitions} and {seconds}"
        )
    if against is not None and against not in PEERS:
        raise unknown("peer", against, PEERS)
    if against is not None:
        PEERS[against].version()  # whether it is there
        describe_network(workload)
    with refusing_what_does_not_fit(workload):
        reset_process_peak()
        program = compile_program(workload)
        ours = start(program)
        process_peak = process_peak_bytes()
        contestants = [ours]
        if against is not None:
            contestants.append(start_apart(PEERS[against], workload))
        peak = measure_peak(workload.precision)
        rates = take_turns(contestants, repetitions, seconds)
        peak = max(peak, measure_peak(workload.precision))
        parts = profile(program, ours) if profiled else None
    found = {
        **describe_workload(workload),
        "command": shell_command(workload, against, repetitions, seconds, profiled),
        "date": datetime.date.today().isoformat(),
        "hardware": describe_hardware(),
        "versions": describe_versions(),
        **describe_rates(workload, ours, rates[ours.name], peak),
        "process_peak_bytes": process_peak,
        "peak_flops_per_second": peak,
    }
    if against is not None:
        (peer,) = contestants[1:]
        version = PEERS[against].version()
        described = describe_rates(workload, peer, rates[peer.name], peak)
        found["peer"] = {"name": against, "version": version, "form": peer.form, **described}
        found |= describe_ratio(rates[ours.name], rates[peer.name])
    if parts is not None:
        found["profile"] = {**parts._asdict(), "coverage": parts.coverage}
    return found


def foretell(workload: Workload) -> dict:
    """What memory a workload will need, as JSON data, from compiling alone."""
    with refusing_what_does_not_fit(workload):
        return {**describe_workload(workload), "memory": predict_memory(workload)._asdict()}


def describe_workload(workload: Workload) -> dict:
    """The workload, its lowering by name, and oneDNN's version where that is used."""
    chosen = lowering(workload.lowering) if workload.lowering else contextlib.nullcontext()
    with chosen:
        used = current_lowering()
    described = {**workload._asdict(), "image_shape": list(workload.image_shape), "lowering": used}
    if used == "onednn":
        from ..ops import onednn

        described["onednn"] = onednn.version()
    return described


def describe_rates(
    workload: Workload, contestant: Contestant, steps_per_second: list[float], peak: float
) -> dict:
    """One contestant's figures."""
    median = statistics.median(steps_per_second)
    flops = count_flops(workload) * median
    return {
        "images_per_second": workload.batch_size * median,
        "images_per_second_repetitions": [workload.batch_size * rate for rate in steps_per_second],
        "compile_seconds": contestant.compile_seconds,
        "peak_bytes": contestant.peak_bytes,
        "flops_per_second": flops,
        "share_of_peak": flops / peak,
    }


def describe_ratio(ours: list[float], theirs: list[float]) -> dict:
    """The median of the pairs' ratios, and all of them.

    >>> describe_ratio([2.0, 3.0, 4.0], [1.0, 1.0, 4.0])
    {'ratio': 2.0, 'ratio_repetitions': [2.0, 3.0, 1.0]}
    """
    ratios = [our / their for our, their in zip(ours, theirs, strict=True)]
    return {"ratio": statistics.median(ratios), "ratio_repetitions": ratios}


def shell_command(
    workload: Workload, against=None, repetitions=5, seconds=1.0, profiled=False
) -> str:
    """The command that repeats a measurement.

    >>> shell_command(Workload("lenet5", 8, (28, 28, 1)), "torch")
    'convnets benchmark --model lenet5 --batch-size 8 --image 28x28x1 --against torch'
    """
    image = "x".join(map(str, workload.image_shape))
    words = ["convnets", "benchmark", "--model", workload.model]
    words += ["--batch-size", str(workload.batch_size), "--image", image]
    for option, value, default in (
        ("mode", workload.mode, "train"),
        ("precision", workload.precision, "float32"),
        ("lowering", workload.lowering, None),
        ("against", against, None),
        ("repetitions", repetitions, 5),
        ("seconds", seconds, 1.0),
    ):
        if value != default:
            words += [f"--{option}", str(value)]
    return shlex.join([*words, *(["--profile"] if profiled else [])])


@contextlib.contextmanager
def refusing_what_does_not_fit(workload: Workload) -> Iterator[None]:
    """Says in one message that memory ran out, whoever found it."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        text = f"{type(error).__name__} {error}".lower()
        known = ("memoryerror", "resource_exhausted", "out of memory", "can't allocate memory")
        if not any(words in text for words in known):
            raise
        raise UserError(
            f"memory ran out with a batch of {workload.batch_size}; take a smaller one: "
            "--memory tells the largest that fits"
        ) from None
