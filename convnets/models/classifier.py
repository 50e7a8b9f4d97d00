"""The one head: from a backbone's last endpoint to logits."""

import math
from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

from ..errors import UserError, unknown
from ..layers import Dense, Dropout
from ..ops import (
    adaptive_average_pool,
    global_average_and_max_pool,
    global_average_pool,
    global_l2_pool,
    global_max_pool,
)


def flatten(x):
    """All values of an example in one row: `[B, …] -> [B, N]`."""
    return x.reshape(x.shape[0], math.prod(x.shape[1:]))  # of an empty batch too


def pool_to_row(x, side: int):
    """Means of `side` times `side` bins in one row, `[B, H, W, C] -> [B, side * side * C]`.

    The row counts channels fastest. PyTorch's count them slowest: a dense kernel of `[features,
    C * 6 * 6]` there is `[6 * 6 * C, features]` here, by way of `[6, 6, C, features]`.
    """
    return flatten(adaptive_average_pool(x, side))


POOLS = {
    "average": global_average_pool,
    "max": global_max_pool,
    "both": global_average_and_max_pool,
    "l2": global_l2_pool,
    "flatten": flatten,
}


def pool_named(pool: str | Callable) -> Callable:
    """A function `[B, H, W, C] -> [B, C']` by its name in `POOLS`, or itself.

    Raises: UserError for another name.
    """
    if callable(pool):
        return pool
    if pool not in POOLS:
        raise unknown("pool", pool, POOLS)
    return POOLS[pool]


class Classifier(nn.Module):
    """A backbone and its head: pool, hidden layers, dropout, one dense layer.

    Attributes:
      backbone: a module called `(images, *, train)` that returns a dict of endpoints, in order.
      num_classes: outputs of the dense layer named `head`; 0 for no such layer.
      hidden: makes the module between pool and head, called `(x, *, train)` on `[B, C]`; None for
        nothing.
      pool: `[B, H, W, C] -> [B, C']`, applied to the last endpoint if it is an image: `average`,
        `max`, `both` (side by side), `l2`, `flatten`, or a function.
      dropout: rate before the dense layer.
      auxiliary: pairs of an endpoint and what makes a head for it, called `(x, *, train)`, with
        `num_classes` and the backbone's `norm` as fields. These heads are for training: their
        logits are sown into the collection `auxiliary` where that is mutable, and returned never.
      registry_name: the name that alone makes this model again, for a run to write down; or None.
      dtype: what everything before the dense layer is computed in; the logits are float32, or
        float64 if that is asked for.

    >>> from convnets.models.lenet import LeNet5
    >>> model = Classifier(LeNet5(), num_classes=10)
    >>> logits, _ = model.init_with_output(
    ...     jax.random.key(0), jnp.ones((2, 28, 28, 1)), train=False)
    >>> logits.shape
    (2, 10)
    """

    backbone: nn.Module
    num_classes: int
    hidden: Callable[..., nn.Module] | None = None
    pool: str | Callable = "average"
    dropout: float = 0.0
    auxiliary: tuple[tuple[str, Callable[..., nn.Module]], ...] = ()
    dtype: DTypeLike = jnp.float32
    registry_name: str | None = None

    def __call__(self, images, *, train: bool):
        """Logits `[B, num_classes]` of float images `[B, H, W, C]`; without a head the pre-logits.

        Raises: TypeError for integer images, ValueError for another rank, UserError for images
          too small for the backbone and for an unknown pool.
        """
        endpoints = self.endpoints(images, train=train)
        return endpoints["logits" if self.num_classes else "pre_logits"]

    @nn.compact
    def endpoints(self, images, *, train: bool) -> dict:
        """The backbone's endpoints, then `pre_logits` and, with a head, `logits`.

        Reached by `model.apply(variables, images, train=False, method="endpoints")`.
        """
        if images.ndim != 4:
            raise ValueError(f"expected images [B, H, W, C], came shape {images.shape}")
        if not jnp.issubdtype(images.dtype, jnp.floating):
            raise TypeError(
                f"expected float images, came {images.dtype}; convnets.prepare makes them of bytes"
            )
        try:
            endpoints = dict(self.backbone(images.astype(self.dtype), train=train))
        except UserError as error:
            raise UserError(f"for images of {images.shape[1]}x{images.shape[2]}: {error}") from None
        x = list(endpoints.values())[-1]
        if self.num_classes:
            self._train_auxiliary_heads(endpoints, train)
        last = x
        if x.ndim == 4:
            x = pool_named(self.pool)(x)
        if self.hidden is not None:
            x = self.hidden(name="hidden")(x, train=train)
        endpoints["pre_logits"] = x
        if self.num_classes:
            endpoints["logits"] = self._score(x, last, train)
        return endpoints

    def _score(self, x, last, train):
        """Logits from the pre-logits `x`, or in other classifiers from the last endpoint."""
        if self.dropout:
            x = Dropout(self.dropout, name="dropout")(x, train=train)
        x = x.astype(jnp.promote_types(self.dtype, jnp.float32))
        return Dense(self.num_classes, name="head")(x)

    def _train_auxiliary_heads(self, endpoints, train):
        if not train and not self.is_mutable_collection("auxiliary"):
            return
        for number, (endpoint, head) in enumerate(self.auxiliary, 1):
            if endpoint not in endpoints:
                raise unknown("endpoint", endpoint, endpoints)
            name = f"auxiliary{number}"
            head = head(num_classes=self.num_classes, norm=self.backbone.norm, name=name)
            try:
                logits = head(endpoints[endpoint], train=train)
            except UserError as error:
                raise UserError(
                    f"the auxiliary head behind {endpoint}: {error}; smaller images go without "
                    "these heads, with auxiliary=()"
                ) from None
            if not self.is_initializing():
                self.sow("auxiliary", f"{name}_logits", logits)
