"""What the name of a model stands for, and which options it leaves open."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from ..errors import UserError, suggest
from .classifier import Classifier, pool_named


class Entry(NamedTuple):
    """One model.

    Attributes:
      backbone: a module class, or a `functools.partial` that binds by keyword what the name means.
      image_shape: `(H, W, C)` of the images that it was made for.
      num_classes: classes of the data that it was made for.
      classifier: `Classifier`, or a partial of it.
      defaults: of options, where other than the field's own default.

    A field that a partial binds is part of the name; every other field is an option.
    """

    backbone: Callable[..., nn.Module]
    image_shape: tuple[int, int, int] = (224, 224, 3)
    num_classes: int = 1000
    classifier: Callable[..., Classifier] = Classifier
    defaults: Mapping[str, Any] = MappingProxyType({})


RATES = {"dropout", "drop_path", "layer_dropout", "block_dropout"}


def open_fields(factory: Callable[..., nn.Module]) -> set[str]:
    """The options of a module class, or of a partial of one: its fields, less the bound ones."""
    bound = set()
    while isinstance(factory, partial):
        bound |= set(factory.keywords)
        factory = factory.func
    fields = {field.name for field in dataclasses.fields(factory) if field.init}
    return fields - bound - {"parent", "name", "backbone", "num_classes", "registry_name"}


def require_options(name: str, options: Mapping[str, Any], known: set[str]):
    """Refuse options that the model does not have, and values that no model takes.

    Raises: UserError with the nearest option and all there are, or what was expected of a value.
    """
    for option in options:
        if option not in known:
            raise UserError(f"{name} has no option {option!r}; {suggest(option, known)}")
    for option, value in options.items():
        if option in RATES and not 0 <= value < 1:
            raise UserError(f"{option} is a rate in [0, 1), came {value!r}")
    if not isinstance(options.get("checkpoint", False), bool):
        raise UserError(f"checkpoint is True or False, came {options['checkpoint']!r}")
    pool_named(options.get("pool", "average"))
    dtype = options.get("dtype", jnp.float32)
    try:
        floating = jnp.issubdtype(dtype, jnp.floating)
    except TypeError:
        floating = False
    if not floating:
        raise UserError(f"dtype is one of floating numbers, as 'bfloat16', came {dtype!r}")
