"""Whether two configs are of one run: a resumed one, or one of several processes."""

from ..errors import UserError
from .options import MAY_CHANGE


def require_same_run(saved: dict, given: dict) -> None:
    """Refuses to go on with a run under other settings.

    Raises: UserError that shows both values of what differs.
    """
    may_change = {*MAY_CHANGE}
    if "parameter-server" in (saved.get("parallel"), given["parallel"]):
        may_change -= {"parallel", "workers"}
    differing = _differing(saved, given, "in the run", "now", may_change)
    if differing:
        raise UserError(
            f"the run cannot be resumed with other settings ({differing}); "
            "take them back, or start a new run in another workdir"
        )


def require_same_settings(first: dict, given: dict, index: int) -> None:
    """Refuses to train in a process, whose index is given, with other settings than process 0 has.

    Raises: UserError that shows both values of what differs.
    """
    here = f"in process {index}"
    differing = _differing(first, given, "in process 0", here, ("workers", "data_dir"))
    if differing:
        raise UserError(f"the processes of a run have the same settings, not {differing}")


def _differing(old, new, of_old, of_new, but):
    """What differs between two configs but for some settings, with both values, as text."""
    old, new = _leaves(old), _leaves(new)
    return "; ".join(
        f"{name}: {old[name]!r} {of_old}, {new[name]!r} {of_new}"
        for name in new
        if name in old and name not in but and old[name] != new[name]
    )


def _leaves(config: dict, prefix: str = "") -> dict:
    """The settings by their dotted names, without the versions."""
    leaves = {}
    for name, value in config.items():
        if isinstance(value, dict):
            leaves |= _leaves(value, f"{prefix}{name}.") if name != "versions" else {}
        else:
            leaves[prefix + name] = value
    return leaves
