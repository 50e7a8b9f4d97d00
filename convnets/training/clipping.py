"""Limits of the gradient: of each value, of each unit beside its weights, of the whole."""

import jax
import optax

from ..errors import UserError
from .selection import is_of_head, kernels, paths

RANKS = range(7)  # of parameters, 0 to 6
# The axes that a unit's weights lie along, by label. Optax's own guess would take a kernel of
# [1, 1, 1, features] for one unit.
UNITS = {f"kernel{rank}": tuple(range(rank - 1)) for rank in RANKS[2:]}
UNITS |= {"kernel6": (2, 3, 4)}  # locally connected: a unit for each feature of each pixel
UNITS |= {f"whole{rank}": tuple(range(rank)) for rank in RANKS}


def create_clipping(
    *, value: float | None = None, adaptive: float | None = None, norm: float | None = None
) -> list[optax.GradientTransformation]:
    """The limits that are given, in this order, to chain before an optimizer.

    Args:
      value: largest absolute value of an element.
      adaptive: largest ratio of a unit's gradient to its weights, both by their norm. A unit is one
        output: a column of `[C, features]`, all of `[kernel H, kernel W, C, features]` that leads
        to one feature; each bias or scale is one as a whole. The norm of weights counts as 0.001 at
        least. The last dense layer, `head`, is let be.
      norm: largest global norm.

    Raises: UserError for a limit that is not positive.

    Reference: Pascanu, Mikolov, Bengio 2013, algorithm 1 (norm); Brock, De, Smith, Simonyan 2021,
    "High-performance large-scale image recognition without normalization", section 4.1 and
    equation 3 (adaptive).

    >>> (clipping,) = create_clipping(value=0.5)
    >>> clipping.update({"bias": jax.numpy.float32(2.0)}, clipping.init({}))[0]["bias"].item()
    0.5
    """
    for name, limit in (("value", value), ("unit's norm", adaptive), ("norm", norm)):
        if limit is not None and not limit > 0:
            raise UserError(f"the largest gradient {name} must be positive, not {limit}")
    parts = []
    if value is not None:
        parts.append(optax.clip(value))
    if adaptive is not None:
        clips = {
            unit: optax.adaptive_grad_clip(adaptive, axis=axis) for unit, axis in UNITS.items()
        }
        parts.append(optax.partition(clips | {"head": optax.identity()}, _label_units))
    if norm is not None:
        parts.append(optax.clip_by_global_norm(norm))
    return parts


def _label_units(params):
    """A tree like `params` of the names in `UNITS`, and `head`."""

    def label(x, path, is_kernel):
        if is_of_head(path):
            return "head"
        return f"{'kernel' if is_kernel and x.ndim > 1 else 'whole'}{x.ndim}"

    return jax.tree.map(label, params, paths(params), kernels(params))
