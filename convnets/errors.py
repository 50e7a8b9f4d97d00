"""What goes wrong by a user's hand, said in one message."""

import difflib
from collections.abc import Iterable

MANY = 40  # names that are told at most


class UserError(ValueError):
    """Bad input: what was expected, what came, what to try. A shell shows no traceback."""


class NotFiniteError(UserError):
    """A loss or a state that became infinite or NaN: a training that diverged."""


class LostProcessError(UserError):
    """Another process of the run died, without which this one cannot go on."""


def unknown(kind: str, name: str, names: Iterable[str]) -> UserError:
    """The error for a name that is not there, with the nearest one that is.

    >>> str(unknown("model", "lenet6", ["lenet1", "lenet5", "resnet18"]))
    "unknown model 'lenet6'; did you mean 'lenet5'?"
    """
    return UserError(f"unknown {kind} {name!r}; {suggest(name, names)}")


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its type where it says nothing.

    >>> first_line(ValueError("no such thing\\nand more")), first_line(KeyboardInterrupt())
    ('no such thing', 'KeyboardInterrupt')
    """
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def suggest(name: str, names: Iterable[str]) -> str:
    """The nearest of some names, or where none is near all of them, or the first of many.

    >>> suggest("norn", ["norm", "dropout"]), suggest("depth", [])
    ("did you mean 'norm'?", 'known: none')
    """
    names = sorted(names)
    nearest = difflib.get_close_matches(str(name), names, n=1)
    if nearest:
        return f"did you mean {nearest[0]!r}?"
    more = f", … ({len(names)} in all)" if len(names) > MANY else ""
    return f"known: {', '.join(names[:MANY]) or 'none'}{more}"
