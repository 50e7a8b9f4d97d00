"""What options may be given as, and what they are kept as."""

import math

from ..errors import UserError


def satisfies(value, condition) -> bool:
    """Whether a condition holds; it does not where a value of its kind is not even there."""
    try:
        return bool(condition(value))
    except (AttributeError, KeyError, TypeError):
        return False


def _read_freeze(freeze):
    freeze = (freeze,) if isinstance(freeze, str) else freeze or ()
    if not satisfies(freeze, lambda x: all(isinstance(pattern, str) for pattern in x)):
        raise UserError(f"freeze takes patterns of paths, as 'backbone/*', not {freeze!r}")
    return tuple(freeze)


def _read_rate_scales(scales):
    pairs = scales.items() if isinstance(scales, dict) else scales or ()
    try:
        pairs = tuple((pattern, float(factor)) for pattern, factor in pairs)
    except (TypeError, ValueError):
        raise UserError(f"rate_scales takes factors by patterns, not {scales!r}") from None
    for pattern, factor in pairs:
        if not isinstance(pattern, str) or not 0 <= factor < math.inf:
            raise UserError(
                "rate_scales takes factors, not negative and finite, by patterns of paths, not "
                f"{factor} by {pattern!r}"
            )
    return pairs


READERS = {"freeze": _read_freeze, "rate_scales": _read_rate_scales}
