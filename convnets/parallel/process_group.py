"""What the processes of a run tell each other beside their collectives.

Each has a thread that, every second, leaves a sign of life in the key-value store of JAX's
coordinator and looks for what concerns all: a signal, upon which all stop after the same step, and
an end, upon which all end. So a process whose collective was torn can name the one that died, and
one that would wait in a collective forever, as in NCCL's after a death, ends too.

The store's keys, after `convnets/`, are `alive/PROCESS`, a count; `left/PROCESS`; `who/PROCESS`;
`end/NUMBER`, why a session, as a training is one, ends for all, after an exit code; and for every
training `stop/NUMBER/asked`, a signal, and `stop/NUMBER/at/PROCESS`, the step that each has come
to. Those of `decisions` are besides.
"""

import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence

import jax

from ..errors import LostProcessError, UserError, first_line
from .decisions import LONG, Decisions, PartedError
from .rendezvous import is_there
from .torn_collectives import is_torn

EVERY = 1.0  # seconds between two signs of life
SILENT = 8.0  # seconds without one, after a torn collective, of a process that is dead
LOST = 30.0  # seconds without one, of a process that the others end for, torn or not
GRACE = 10.0  # seconds that a process has to end by itself, once the run has ended
FAILED, USERS_OWN = 1, 2  # exit codes: the second is of what the user has to mend


class ProcessGroup:
    """The processes of a run, as one of them sees them.

    Args:
      client: of JAX's coordination service.
      index, count: which of how many processes this one is.
      connections: to the others, as `rendezvous.meet` gives them, that close when those are gone.
    """

    def __init__(self, client, index: int, count: int, connections: Sequence = ()):
        self._client, self.index, self.count = client, index, count
        self._connections = connections
        self._decisions, self._trainings = Decisions(client, index, count), 0
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

    def decide(self, decision: Callable, what: str = "a decision"):
        """What process 0 decides, on every process; see `Decisions`."""
        with self._parting():
            return self._decisions.decide(decision, what)

    def agree(self, check: Callable[[], None], what: str) -> None:
        """A check of every process, whose refusal is raised on all; see `Decisions`."""
        with self._parting():
            self._decisions.agree(check, what)

    def wait_for_others(self, what: str = "a barrier") -> None:
        """Returns when every process has called it as often."""
        with self._parting():
            self._decisions.wait_for_others(what)

    @contextlib.contextmanager
    def _parting(self):
        """Within, processes that part all end, wherever they are."""
        try:
            yield
        except PartedError as error:
            self.end(str(error), USERS_OWN)
            raise

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
        what `hint` adds; UserError where that process had one. Every other error is told to the
        others and passes; where it came to all of them alike, they may go on together.
        """
        if not self._depth:
            self._session, self.failed = self._session + 1, False
        self._depth += 1
        try:
            yield
        except LostProcessError:
            raise
        except BaseException as error:
            if not (isinstance(error, jax.errors.JaxRuntimeError) and is_torn(str(error))):
                code = USERS_OWN if isinstance(error, UserError) else FAILED
                self.end(f"{self._who(self.index)} ended with: {first_line(error)}", code)
                raise
            code, reason = self._find_reason(first_line(error))
            self.end(reason, code)
            if code == USERS_OWN:
                raise UserError(reason) from None
            raise LostProcessError(reason + hint()) from None
        finally:
            self._depth -= 1

    def end(self, reason: str, code: int = FAILED) -> None:
        """Tells all that the session ends, and with which exit code, unless one has said so."""
        self._told.add(self._session)
        self.failed = True
        self._set(f"end/{self._session}", f"{code} {reason}")

    def leave(self) -> None:
        """To be called when the process ends: waits until all do. After a failure the coordinator
        alone waits, and not for long, for without it the others would end without a word."""
        with contextlib.suppress(UserError):
            if not self.failed:
                self.decide(lambda: None, "its end")
        if self.failed:
            self._set(f"left/{self.index}", "")
            last = time.monotonic() + (0 if self.index else 2 * GRACE)
            while time.monotonic() < last and not self._are_gone():
                time.sleep(0.2)
        else:
            with contextlib.suppress(jax.errors.JaxRuntimeError):
                self._client.wait_at_barrier("convnets/end", LONG)
        self._closed = True
        self._wake.set()
        self._thread.join(GRACE)
        for connection in self._connections:
            connection.detach()  # the system closes it, when all is done

    def _are_gone(self):
        """Whether the others have left, and their processes have ended too: JAX would abort one
        that outlives the coordinator, however little is left to do."""
        return len(self._all("left")) == self.count and not any(map(is_there, self._connections))

    def _find_reason(self, torn):
        """Exit code, and why a collective was torn: what another has found, or who is silent."""
        deadline, first, alive = time.monotonic() + SILENT, self._signs(), {self.index}
        while time.monotonic() < deadline and len(alive) < self.count:
            if (end := self._end()) is not None:
                return end
            time.sleep(EVERY / 2)
            alive |= {i for i, sign in self._signs().items() if sign != first.get(i)}
        dead = [index for index in range(self.count) if index not in alive]
        if not dead:
            who = self._who(self.index)
            return FAILED, f"{who} lost a connection, though all are alive: {torn}"
        for index in dead:
            self._set(f"left/{index}", "")
        return FAILED, f"{' and '.join(map(self._who, dead))} died"

    def _end(self):
        """Exit code and reason with which a session of this process has ended for others, and it
        does not know; else None."""
        ends = {int(key.rpartition("/")[2]): end for key, end in self._all("end")}
        news = [n for n in sorted(ends) if n <= self._session and n not in self._told]
        if not news:
            return None
        code, _, reason = ends[news[0]].partition(" ")
        return int(code), reason

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
                if (end := self._end()) is not None:
                    self._await_end(*end)
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
            reason = f"{names} gave no sign of life for {LOST:g} s"
            self._set(f"end/{self._session}", f"{FAILED} {reason}")

    def _await_end(self, code, reason):
        """Ends the process if it does not end by itself, for its collectives never will."""
        deadline = time.monotonic() + GRACE
        while time.monotonic() < deadline:
            if self._end() is None or self._closed:
                return
            self._set(f"alive/{self.index}", f"{deadline - time.monotonic()}")
            time.sleep(0.2)
        print(f"convnets: {reason}; this process ends too", file=sys.stderr, flush=True)
        self._set(f"left/{self.index}", "")
        os._exit(code)

    # The store

    def _set(self, key, value):
        with contextlib.suppress(jax.errors.JaxRuntimeError):  # the first word stays
            self._client.key_value_set(f"convnets/{key}", value, key.startswith("alive/"))

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
