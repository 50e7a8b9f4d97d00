"""Ctrl-C and SIGTERM as a question that the loop asks between steps."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def interruption() -> Iterator[Callable[[], int | None]]:
    """Within the context, the first Ctrl-C or SIGTERM is noted instead of raised.

    Yields: a function that gives the number of the signal that came, or None. A second Ctrl-C is
    raised as usual. Outside the main thread, where Python takes no signals, nothing changes.
    """
    received = []
    previous = {}

    def note(number, frame):
        received.append(number)
        signal.signal(signal.SIGINT, previous[signal.SIGINT])

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            previous[number] = signal.signal(number, note)
    try:
        yield lambda: received[0] if received else None
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
