"""Memory that a process keeps for its next step."""

import ctypes
import os
import sys

# Of mallopt, in glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8


def keep_memory() -> bool:
    """Has the C library keep freed memory for the process, instead of giving it back.

    XLA allocates what a step needs on the CPU anew for every step. By default the C library takes
    it from the operating system each time, which clears it page by page: a third of the time of a
    small network's step. To be called before JAX's first operation, for it binds XLA's threads to
    one heap; `fit` and the command line do so. The process then stays as large as it ever was.

    Returns: whether it was done: not where the environment chooses already (`MALLOC_ARENA_MAX`,
    `GLIBC_TUNABLES`, …), nor with another C library than glibc.

    >>> keep_memory() in (True, False)
    True
    """
    chosen = any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ)
    if chosen or sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return False
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1), (M_ARENA_MAX, 1))
    return all([mallopt(name, value) == 1 for name, value in settings])
