"""Which table of names a model has in a library."""

import re

from ..errors import UserError, unknown
from . import timm, torchvision
from .names import Names

LIBRARIES = {"torchvision": torchvision.TABLES, "timm": timm.TABLES}


def names_of(name: str, library: str) -> Names:
    """The table of a model in a library.

    Raises: UserError for an unknown library, or a model that it does not have.
    """
    if library not in LIBRARIES:
        raise unknown("library", library, LIBRARIES)
    for pattern, names in LIBRARIES[library].items():
        if re.fullmatch(pattern, name):
            return names
    others = [other for other in LIBRARIES if other != library and _has(other, name)]
    hint = f"; {', '.join(others)} has it" if others else ""
    raise UserError(f"there is no table of names of {name!r} in {library}{hint}")


def _has(library: str, name: str) -> bool:
    return any(re.fullmatch(pattern, name) for pattern in LIBRARIES[library])
