"""Where a step's time goes, by kind of work, from a trace of some steps."""

import bisect
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax

from .attribution import classify, read_program
from .timing import Contestant
from .workloads import Program

# Lines of a trace that hold the operations: of a CPU's threads, of a GPU, of a TPU.
LINES = ("tf_XLA", "Stream", "XLA Ops")
END = "end: "


class Profile(NamedTuple):
    """A step's time by kind of work.

    Attributes:
      seconds: of one step, by kind, the most first. At a moment at which several operations run,
        each has an equal share of it, so that the parts add up to the time in which any runs.
      step_seconds: of one step, traced; tracing itself takes some of it.
      steps: how many were traced.
    """

    seconds: dict[str, float]
    step_seconds: float
    steps: int

    @property
    def coverage(self) -> float:
        """The share of the step in which any operation was seen to run."""
        return sum(self.seconds.values()) / self.step_seconds


class Event(NamedTuple):
    """One execution of an operation, in nanoseconds."""

    name: str
    run: object
    start: float
    end: float


def profile(program: Program, contestant: Contestant, steps: int = 3) -> Profile:
    """Traces some steps of a program that has been started."""
    text = read_program(program.compiled.as_text())
    kinds = classify(text, training=program.workload.mode == "train")
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level, options.host_tracer_level = 0, 1
    contestant.run(1)
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, profiler_options=options):
            begin = time.perf_counter()
            contestant.run(steps)
            elapsed = time.perf_counter() - begin
        (path,) = Path(folder).rglob("*.xplane.pb")
        events = list(_events(jax.profiler.ProfileData.from_file(str(path)), kinds, text.users))
    shares = Counter()
    for name, nanoseconds in share_time(events).items():
        shares[kinds[name]] += nanoseconds / 1e9 / steps
    return Profile(dict(shares.most_common()), elapsed / steps, steps)


def share_time(events: list[Event]) -> dict[str, float]:
    """Nanoseconds of every operation, by name; those that run at once share the time evenly.

    >>> share_time([Event("a", 0, 0, 4), Event("b", 0, 2, 4)])
    {'a': 3.0, 'b': 1.0}
    """
    times = Counter()
    borders = sorted(
        [(event.start, 0, number) for number, event in enumerate(events)]
        + [(event.end, 1, number) for number, event in enumerate(events)]
    )
    running, before = set(), 0.0
    for now, ends, number in borders:
        for other in running:
            times[events[other].name] += (now - before) / len(running)
        before = now
        (running.remove if ends else running.add)(number)
    return dict(times)


def _events(data, kinds, users) -> Iterator[Event]:
    """The executions of the operations that have a kind.

    An operation on the CPU that hands its work to other threads is over when a mark says so, or
    when another begins that takes its result: the mark comes late, after what follows from it.
    """
    begun, marks, starts = [], defaultdict(list), defaultdict(list)
    for plane in data.planes:
        for line in plane.lines:
            if not line.name.startswith(LINES):
                continue
            for event in line.events:
                if event.name.startswith(END):
                    marks[event.name.removeprefix(END)].append(event.start_ns)
                    continue
                statistics = dict(event.stats)
                name, run = statistics.get("hlo_op", event.name), statistics.get("run_id")
                if name in kinds:
                    end = event.start_ns + event.duration_ns
                    begun.append(Event(name, run, event.start_ns, end))
                    starts[name, run].append(event.start_ns)
    for times in (*marks.values(), *starts.values()):
        times.sort()
    for event in begun:
        mark = _next(marks.get(event.name, ()), event.start)
        if mark is not None and mark > event.end:
            used = (
                _next(starts.get((user, event.run), ()), event.end)
                for user in users.get(event.name, ())
            )
            event = event._replace(end=min([mark, *(at for at in used if at is not None)]))
        yield event


def _next(times, now):
    """The first of the sorted times that is not before now."""
    place = bisect.bisect_left(times, now)
    return times[place] if place < len(times) else None
