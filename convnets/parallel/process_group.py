"""What the processes of a run tell each other beside their collectives.

Each has a thread that, every second, leaves a sign of life in the key-value store of JAX's
coordinator and looks for what concerns all: a signal, upon which all stop after the same step, and
an end, upon which all end. So a process whose collective was torn can name the one that died, and
one that would wait in a collective forever, as in NCCL's after a death, ends too.

The store's keys, after `convnets/`, are `alive/PROCESS`, a count; `left/PROCESS`; `who/PROCESS`;
`end/NUMBER`, why a session, as a training is one, ends for all; for every training
`stop/NUMBER/asked`, a signal, and `stop/NUMBER/at/PROCESS`, the step that each has come to; and
`decision/NUMBER/PART`, what process 0 decides for all.
"""

import contextlib
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable

import jax

from ..errors import LostProcessError, UserError, first_line

EVERY = 1.0  # seconds between two signs of life
SILENT = 8.0  # seconds without one, after a torn collective, of a process that is dead
LOST = 30.0  # seconds without one, of a process that the others end for, torn or not
GRACE = 10.0  # seconds that a process has to end by itself, once the run has ended
LONG = 10**8  # milliseconds, a day: of waits that end with the run, or with a dead process
PART = 2**20  # characters of a decision in one value
TORN = ("closed by peer", "reset by peer", "broken pipe", "remote process exited", "timed out")


class ProcessGroup:
    """The processes of a run, as one of them sees them.

    Args:
      client: of JAX's coordination service.
      index, count: which of how many processes this one is.
    """

    def __init__(self, client, index: int, count: int):
        self._client, self.index, self.count = client, index, count
        self._decisions = self._trainings = 0
        self._lock = threading.Lock()
        self._training = None
        self._wake, self._closed = threading.Event(), False
        self._session = self._depth = 0  # which entry into `ending_together`, and how deep
        self._told = set()  # the sessions whose end the main thread knows of
        self.failed = False
        self._looked, self._signed, self._silence = 0.0, {}, {}  # when; signs, seconds since
        who = f"process {index} of {count} ({socket.gethostname()}, pid {os.getpid()})"
        self._set(f"who/{index}", who)
        self._thread = threading.Thread(target=self._watch, name="process group", daemon=True)
        self._thread.start()

    # Decisions

    def decide(self, decision: Callable):
        """What process 0 decides, as JSON data, on every process; so too a UserError of it."""
        self._decisions += 1
        key = f"decision/{self._decisions}"
        if self.index:
            parts = int(self._wait(f"{key}/parts"))
            said = json.loads("".join(self._wait(f"{key}/{part}") for part in range(parts)))
            if "error" in said:
                raise UserError(said["error"])
            return said["value"]
        try:
            value, refusal = decision(), None
            text = json.dumps({"value": value})
        except UserError as error:
            refusal, text = error, json.dumps({"error": str(error)})
        parts = range(0, len(text), PART)
        for part, start in enumerate(parts):
            self._set(f"{key}/{part}", text[start : start + PART])
        self._set(f"{key}/parts", str(len(parts)))
        if refusal is not None:
            raise refusal
        return value

    def wait_for_others(self) -> None:
        """Returns when every process has called it as often."""
        self._decisions += 1
        self._client.wait_at_barrier(f"convnets/barrier/{self._decisions}", LONG)

    # Stopping after the same step

    @contextlib.contextmanager
    def stopping(self, received: Callable[[], int | None]):
        """Within a training: yields `number -> signal`, to be called after the same steps on every
        process; None up to the step at which all stop, for a signal to any of them.

        A process that has heard of the signal tells the step it has come to and takes no further
        one before it knows that of the others; all stop at the first step beyond the farthest.
        """
        with self._lock:
            self._trainings += 1
            self._training = training = _Training(f"stop/{self._trainings}")

        def signal_after(number):
            if training.asked is None and (signal := received()) is not None:
                training.asked = signal
                self._wake.set()
            with self._lock:
                training.at = number
                return training.signal if number > training.farthest else None

        try:
            yield signal_after
        finally:
            with self._lock:
                self._training = None
                if not training.told:
                    self._set(f"{training.key}/at/{self.index}", str(2**31))  # none is farther

    def _agree(self):
        """Hears of a signal, or passes it on; then finds out how far each process has come."""
        training = self._training
        if training is None or training.told:
            return
        if training.asked is not None:
            self._set(f"{training.key}/asked", str(training.asked))
        asked = self._get(f"{training.key}/asked")
        if asked is None:
            return
        with self._lock:
            if self._training is not training:
                return
            self._set(f"{training.key}/at/{self.index}", str(training.at))
            training.told, steps = True, []
            while len(steps) < self.count and self._end() is None:
                self._set(f"alive/{self.index}", f"waits for others at {time.monotonic()}")
                self._end_for_the_lost()
                steps = [int(step) for _, step in self._all(f"{training.key}/at")]
                time.sleep(0.02)
            if len(steps) == self.count:
                training.signal, training.farthest = int(asked), max(steps)

    # Ending together

    @contextlib.contextmanager
    def ending_together(self, hint: Callable[[], str] = lambda: ""):
        """Within, the error of one process ends all of them.

        Raises: LostProcessError in the place of a torn collective's error: which process died, and
        what `hint` adds. Every other error is told to the others and passes; where it came to all
        of them alike, they may go on together.
        """
        if not self._depth:
            self._session, self.failed = self._session + 1, False
        self._depth += 1
        try:
            yield
        except LostProcessError:
            raise
        except BaseException as error:
            torn = isinstance(error, jax.errors.JaxRuntimeError) and is_torn(str(error))
            if torn:
                reason = self._find_reason(first_line(error))
            else:
                reason = f"{self._who(self.index)} ended with: {first_line(error)}"
            self.end(reason)
            if torn:
                raise LostProcessError(reason + hint()) from None
            raise
        finally:
            self._depth -= 1

    def end(self, reason: str) -> None:
        """Tells all that the session ends, unless one has said so before."""
        self._told.add(self._session)
        self.failed = True
        self._set(f"end/{self._session}", reason)

    def leave(self) -> None:
        """To be called when the process ends: waits until all do. After a failure the coordinator
        alone waits, and not for long, for without it the others would end without a word."""
        if self.failed:
            self._set(f"left/{self.index}", "")
            last = time.monotonic() + (0 if self.index else GRACE + 5 * EVERY)
            while time.monotonic() < last and len(self._all("left")) < self.count:
                time.sleep(0.2)
        else:
            with contextlib.suppress(jax.errors.JaxRuntimeError):
                self._client.wait_at_barrier("convnets/end", LONG)
        self._closed = True
        self._wake.set()
        self._thread.join(GRACE)

    def _find_reason(self, torn):
        """Why a collective was torn: what another process has found, or who is silent."""
        deadline, first, alive = time.monotonic() + SILENT, self._signs(), {self.index}
        while time.monotonic() < deadline and len(alive) < self.count:
            if (reason := self._end()) is not None:
                return reason
            time.sleep(EVERY / 2)
            alive |= {i for i, sign in self._signs().items() if sign != first.get(i)}
        dead = [index for index in range(self.count) if index not in alive]
        if not dead:
            return f"{self._who(self.index)} lost a connection, though all are alive: {torn}"
        for index in dead:
            self._set(f"left/{index}", "")
        return f"{' and '.join(map(self._who, dead))} died"

    def _end(self):
        """Why a session of this process has ended for others, and it does not know; else None."""
        ends = {int(key.rpartition("/")[2]): reason for key, reason in self._all("end")}
        news = [n for n in sorted(ends) if n <= self._session and n not in self._told]
        return ends[news[0]] if news else None

    def _signs(self):
        return {int(key.rpartition("/")[2]): sign for key, sign in self._all("alive")}

    def _watch(self):
        """The thread: a sign of life, a look for a signal, a look for the end."""
        count = 0
        with contextlib.suppress(jax.errors.JaxRuntimeError):  # the coordinator is gone
            while not self._closed:
                self._set(f"alive/{self.index}", str(count := count + 1))
                self._agree()
                self._end_for_the_lost()
                if (reason := self._end()) is not None:
                    self._await_end(reason)
                self._wake.wait(EVERY)
                self._wake.clear()

    def _end_for_the_lost(self):
        """Ends the session for all where a process gives no sign of life: where it has died and its
        collectives are not torn, or where it hangs, the others would wait in theirs."""
        signs, now = self._signs(), time.monotonic()
        passed = min(now - self._looked, 2 * EVERY)  # not where this process itself stood still
        self._silence = {
            index: self._silence[index] + passed if sign == self._signed.get(index) else 0.0
            for index, sign in signs.items()
        }
        self._signed, self._looked = signs, now
        lost = [index for index, seconds in self._silence.items() if seconds > LOST]
        if lost and self._depth:
            for index in lost:
                self._set(f"left/{index}", "")
            names = " and ".join(map(self._who, lost))
            self._set(f"end/{self._session}", f"{names} gave no sign of life for {LOST:g} s")

    def _await_end(self, reason):
        """Ends the process if it does not end by itself, for its collectives never will."""
        deadline = time.monotonic() + GRACE
        while time.monotonic() < deadline:
            if self._end() is None or self._closed:
                return
            self._set(f"alive/{self.index}", f"{deadline - time.monotonic()}")
            time.sleep(0.2)
        print(f"convnets: {reason}; this process ends too", file=sys.stderr, flush=True)
        self._set(f"left/{self.index}", "")
        os._exit(1)

    # The store

    def _set(self, key, value):
        with contextlib.suppress(jax.errors.JaxRuntimeError):  # the first word stays
            self._client.key_value_set(f"convnets/{key}", value, key.startswith("alive/"))

    def _wait(self, key):
        return self._client.blocking_key_value_get(f"convnets/{key}", LONG)

    def _all(self, folder):
        return self._client.key_value_dir_get(f"convnets/{folder}/")

    def _get(self, key):
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            return self._client.key_value_try_get(f"convnets/{key}")
        return None

    def _who(self, index):
        return self._get(f"who/{index}") or f"process {index} of {self.count}"


class _Training:
    """What concerns the stop of one training, in this process."""

    def __init__(self, key):
        self.key = key
        self.at = -1  # the step that this process has come to
        self.asked = self.signal = None
        self.told = False  # whether the others know `at`
        self.farthest = 2**31


def is_torn(message: str) -> bool:
    """Whether an error of JAX's is about a collective whose other end is gone.

    >>> is_torn("INTERNAL: Gloo all-reduce failed: Read error [::1]:1: Connection reset by peer")
    True
    >>> is_torn("RESOURCE_EXHAUSTED: Out of memory")
    False
    """
    message = message.lower()
    return ("gloo" in message or "nccl" in message) and any(text in message for text in TORN)
