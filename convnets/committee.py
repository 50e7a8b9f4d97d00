"""Committees: several networks that are asked together."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from flax import linen as nn

from .errors import UserError
from .prediction import predict
from .training.state import TrainState


class Member(NamedTuple):
    """One network of a committee.

    Attributes:
      model: it was trained.
      state: its state, with its own normalization.
      preprocess: `[N, H, W, C] -> [N, H', W', C']`, what the member does to the images before its
        normalization, as it did to those that it was trained on, such as to bring digits to a width
        of its own; bytes or floats in [0, 1] both ways. None for nothing.
    """

    model: nn.Module
    state: TrainState
    preprocess: Callable[[np.ndarray], np.ndarray] | None = None


def predict_committee(
    members: Sequence[Member], images, *, batch_size: int = 256, views=None
) -> np.ndarray:
    """Class probabilities of images by a committee: the mean of its members' probabilities.

    Args:
      members: at least one; all of as many classes.
      images: `[N, H, W, C]`, uint8, or floats in [0, 1].
      batch_size: images computed at a time.
      views: of what each member sees, as in `predict`.

    Returns: float32 `[N, K]`, on the host.

    Raises: UserError for what is no `Member`. ValueError for no member, members of different
    numbers of classes, and a member that makes another number of images of those it gets; and as
    `predict`.

    Reference: Ciresan, Meier, Schmidhuber 2012, "Multi-column deep neural networks for image
    classification", section 2: the mean of the columns' outputs, each of which sees the images
    preprocessed in its own way.

    >>> import convnets
    >>> model, digits = convnets.create_model("linear", num_classes=10), "digits"
    >>> data = convnets.load_dataset(digits)
    >>> states = [convnets.fit(model, data, steps=5, seed=seed, progress=False).state
    ...           for seed in (0, 1)]
    >>> images = data.test.images[:3]
    >>> probabilities = predict_committee([Member(model, state) for state in states], images)
    >>> probabilities.shape, bool(abs(probabilities.sum(1) - 1).max() < 1e-5)
    ((3, 10), True)
    """
    members, images = _require_members(members), np.asarray(images)
    total = None
    for number, member in enumerate(members):
        seen = images if member.preprocess is None else np.asarray(member.preprocess(images))
        if seen.shape[:1] != images.shape[:1]:
            made = len(seen) if seen.ndim else "no"
            raise ValueError(f"member {number} made {made} images of {len(images)}")
        rows = predict(member.model, member.state, seen, batch_size=batch_size, views=views)
        rows = rows.astype(np.float64)
        if total is not None and rows.shape != total.shape:
            raise ValueError(
                f"member {number} has {rows.shape[1]} classes, those before it {total.shape[1]}"
            )
        total = rows if total is None else total + rows
    return np.float32(total / len(members))


def _require_members(members) -> list[Member]:
    members = list(members)
    if not members:
        raise ValueError("a committee has at least one member")
    for number, member in enumerate(members):
        fits = isinstance(member, Member) and isinstance(member.model, nn.Module)
        if not (fits and isinstance(member.state, TrainState)):
            raise UserError(
                f"a committee is a list of convnets.Member(model, state): number {number} is none"
            )
    return members
