"""Compiled programs that outlive the process, and how long a compilation took."""

import hashlib
import itertools
import os
import platform
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import jax

MIN_SECONDS = 0.1  # of a compilation that is worth a file; JAX's own 1 s leaves out most of LeNet
HIT, MISS = "/jax/compilation_cache/cache_hits", "/jax/compilation_cache/cache_misses"


def cache_compilations() -> None:
    """Keeps compiled programs in the user's cache folder, for processes to come.

    It turns on JAX's persistent compilation cache in `XDG_CACHE_HOME/convnets/jax`, by default
    `~/.cache/convnets/jax`, unless JAX has been told of a folder already
    (`JAX_COMPILATION_CACHE_DIR`, or `jax.config`). `JAX_ENABLE_COMPILATION_CACHE=false` switches it
    off. A program is found again under the same program text, compiler, options and kind of
    device, and is the same machine code: it computes the same bits.

    Where the folder cannot be written nothing is kept, and an entry that cannot be read is compiled
    again. Several processes may share it. It grows with every new program, and may be deleted at
    any time. XLA would take code for one CPU on another that lacks its instructions, in a home
    that two machines share: each type of CPU has its own folder within.
    """
    config = jax.config
    if config.jax_compilation_cache_dir is not None or not config.jax_enable_compilation_cache:
        return
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = Path(caches, "convnets", "jax", _processor())
    if not folder.is_absolute():  # there is no home
        return
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return
    if not os.access(folder, os.W_OK):
        return
    config.update("jax_compilation_cache_dir", str(folder))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        config.update("jax_persistent_cache_min_compile_time_secs", MIN_SECONDS)
    # A full disk, or an entry that a kill cut short: not what a user has asked for or can mend.
    warnings.filterwarnings("ignore", "Error (read|writ)ing persistent compilation cache")


def _processor() -> str:
    """A name for the type of this machine's CPU, by the instructions that it has."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not on Linux
        lines = [f"model name: {platform.processor()}"]
    told = {x for x in lines if x.startswith(("model name", "flags", "Features", "CPU part"))}
    digest = hashlib.sha256("\n".join(sorted(told)).encode()).hexdigest()
    return f"{platform.machine()}-{digest[:12]}"


def report_first_call(run: Callable, report: Callable[[float, bool], None]) -> Callable:
    """The same function, whose first call tells how long it took to compile.

    Args:
      run: a compiled function.
      report: called after the first call, with the seconds that it took to return (a compiled
        function returns before its results are there) and whether it came from the cache.

    >>> run = report_first_call(jax.jit(lambda x: x + 1), lambda seconds, cached: print("compiled"))
    >>> int(run(run(1)))
    compiled
    3
    """

    def first(*args):
        events = []

        def listen(event, **_):
            events.append(event)

        jax.monitoring.register_event_listener(listen)
        begin = time.monotonic()
        try:
            results = run(*args)
        finally:
            jax.monitoring.unregister_event_listener(listen)
        report(time.monotonic() - begin, HIT in events and MISS not in events)
        return results

    calls = itertools.chain([first], itertools.repeat(run))
    return lambda *args: next(calls)(*args)
