"""What learners and their losses ask of each other and of their options, each answered by one clear
error."""

from collections.abc import Sequence

import numpy as np

from ..errors import UserError
from ..ops import image


def require_weights(**weights: float) -> None:
    """Refuses weights that are negative or no numbers.

    >>> require_weights(sparsity=0.1, contraction=0.0)
    """
    for name, weight in weights.items():
        if not weight >= 0:
            raise UserError(f"{name} must not be negative, came {weight}")


def require_layers(features: Sequence[int]) -> None:
    """Refuses widths that are not those of at least one layer.

    >>> require_layers((64, 8))
    """
    whole = isinstance(features, Sequence) and all(isinstance(x, int) for x in features)
    if not whole or not features or min(features) < 1:
        raise UserError(f"features are the widths of the layers, such as (64,), came {features!r}")


def require_learner(loss: str, model, learners: str, *needed: str) -> None:
    """Refuses a model without what a loss function asks it for.

    Args:
      loss: its name.
      learners: that have it, as a text.
      needed: names of attributes.

    >>> require_learner("a loss", "text", "texts", "upper", "lower")
    """
    if not all(hasattr(model, name) for name in needed):
        raise UserError(f"{loss} is for {learners}, not for {type(model).__name__}")


def require_probabilities(what: str, normalization: image.Normalization | None, instead: str):
    """Refuses a normalization that takes images out of [0, 1], where they are probabilities.

    Args:
      what: takes them for such.
      instead: what else a user may do.

    >>> require_probabilities("the cross entropy", image.Normalization(), "take another")
    """
    mean, std = (np.asarray(x) for x in normalization or image.Normalization())
    ends = [-mean / std, (1 - mean) / std]
    if np.min(ends) < 0 or np.max(ends) > 1:
        raise UserError(
            f"{what} takes images for probabilities, and this normalization takes them from [0, 1] "
            f"to [{np.min(ends):.2g}, {np.max(ends):.2g}]: leave them as they are, by "
            f"dataclasses.replace(dataset, normalization=convnets.Normalization()), or {instead}"
        )
