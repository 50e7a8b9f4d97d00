"""What process 0 decides for all, and what all have to agree on, one thing after the other.

The keys in the store of JAX's coordinator are `convnets/decision/NUMBER/PART` and
`convnets/agreement/NUMBER/PROCESS`. Every decision has a name, by which processes that were started
with different commands are found out at the first at which they part, where they would wait for
each other without end.
"""

import contextlib
import json
from collections.abc import Callable

import jax

from ..errors import UserError

LONG = 10**8  # milliseconds, a day: of waits that end with the run, or with a dead process
PART = 2**20  # characters of a decision in one value


class Decisions:
    """The decisions of a run, as one of its processes sees them.

    Args:
      client: of JAX's coordination service.
      index, count: which of how many processes this one is.
    """

    def __init__(self, client, index: int, count: int):
        self._client, self._index, self._count = client, index, count
        self._number = 0

    def decide(self, decision: Callable, what: str = "a decision"):
        """What process 0 decides, as JSON data, on every process; so too a UserError of it.

        Args:
          decision: makes it; called by process 0 alone.
          what: the name of it, the same on every process.

        Raises: PartedError where process 0 has come to another decision.
        """
        self._number += 1
        key = f"decision/{self._number}"
        if self._index:
            parts = int(self._wait(f"{key}/parts"))
            said = json.loads("".join(self._wait(f"{key}/{part}") for part in range(parts)))
            if said["what"] != what:
                raise PartedError(
                    f"process 0 has come to {said['what']}, process {self._index} to {what}: start "
                    "all processes with the same command, --resume and --workdir in it"
                )
            if "error" in said:
                raise UserError(said["error"])
            return said["value"]
        value = refusal = None
        try:
            value = decision()
        except UserError as error:
            refusal = error
        said = {"value": value} if refusal is None else {"error": str(refusal)}
        text = json.dumps({"what": what, **said})
        parts = range(0, len(text), PART)
        for part, start in enumerate(parts):
            self._set(f"{key}/{part}", text[start : start + PART])
        self._set(f"{key}/parts", str(len(parts)))
        if refusal is not None:
            raise refusal
        return value

    def agree(self, check: Callable[[], None], what: str) -> None:
        """Makes a check on every process; raises on all the UserError of the first that refuses."""
        self.decide(lambda: None, what)
        key, refusal = f"agreement/{self._number}", ""
        try:
            check()
        except UserError as error:
            refusal = str(error)
        self._set(f"{key}/{self._index}", refusal)
        said = [self._wait(f"{key}/{index}") for index in range(self._count)]
        if any(said):
            raise UserError(next(filter(None, said)))

    def wait_for_others(self, what: str = "a barrier") -> None:
        """Returns when every process has called it as often."""
        self.decide(lambda: None, what)
        self._client.wait_at_barrier(f"convnets/barrier/{self._number}", LONG)

    def _set(self, key, value):
        with contextlib.suppress(jax.errors.JaxRuntimeError):  # the first word stays
            self._client.key_value_set(f"convnets/{key}", value)

    def _wait(self, key):
        return self._client.blocking_key_value_get(f"convnets/{key}", LONG)


class PartedError(UserError):
    """The processes of a run do not do the same."""
