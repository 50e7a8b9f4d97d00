"""The entry point of the command `convnets`, and of `python -m convnets`.

Signals are settled before anything large is imported: Python would raise Ctrl-C within whatever is
under way, and in the midst of an import or of JAX's own callbacks that ends badly, or not at all.
"""

import os
import signal
import sys
import threading


def run() -> None:
    """Runs the command and ends the process with its exit code."""
    _handle_signals(_end)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # a path in a terminal that lacks its letters
    from .cli import main

    code = main()
    _handle_signals(signal.SIG_IGN)  # all is done
    sys.stdout.flush()
    sys.stderr.flush()
    others = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
    if any(not thread.daemon for thread in others):
        os._exit(code)  # Orbax waits for minutes in threads of a save that has failed
    sys.exit(code)


def _handle_signals(handler):
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)


def _end(number, frame):
    """Ends the process at once; training puts `interruption` in the place of this handler."""
    name = signal.Signals(number).name
    os.write(2, f"convnets: stopped by {name}; nothing more was written\n".encode())
    os._exit(128 + number)


if __name__ == "__main__":
    run()
