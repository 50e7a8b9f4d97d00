"""All that training carries from step to step, as one tree of arrays."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from ..ops.image import Normalization


@struct.dataclass
class TrainState:
    """The state of a run: data only, so that it saves, shards and compares as a tree.

    Attributes:
      step: int32 scalar, the number of batches seen.
      key: uint32 `[2]`; the key of step s is `fold_in(key, s)`.
      params: the model's parameters.
      batch_stats: its batch statistics, `{}` for a model without batch norm.
      opt_state: the optimizer's state.
      ema: `{"params": …, "batch_stats": …}`, their exponential moving averages, or None.
      normalization: what the images are normalized with before this model, or None; so that a
        prediction needs the state alone.
    """

    step: jax.Array
    key: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any
    ema: Any = None
    normalization: Normalization | None = None

    def __repr__(self):
        sizes = [getattr(leaf, "size", 1) for leaf in jax.tree.leaves(self.params)]
        return f"TrainState(step {self.step}, {sum(sizes):,} parameters)"

    @classmethod
    def create(
        cls,
        variables,
        optimizer: optax.GradientTransformation,
        key: jax.Array,
        *,
        ema: bool = False,
        normalization: Normalization | None = None,
    ) -> "TrainState":
        """The state before the first step.

        Args:
          variables: `{"params": …}`, with `"batch_stats"` where the model has them; each may be
            missing.
          optimizer: an Optax transformation.
          key: a key of JAX's default generator, typed or raw.
          ema: whether to keep moving averages, starting at the given values.
          normalization: as in `TrainState`.

        >>> state = TrainState.create({"params": {"w": jnp.ones(2)}}, optax.sgd(0.1),
        ...                           jax.random.key(0))
        >>> int(state.step), state.batch_stats, state.ema
        (0, {}, None)
        """
        params = variables.get("params", {})  # none of what learns by its statistics alone
        batch_stats = variables.get("batch_stats", {})
        if normalization is not None:
            normalization = Normalization(*(jnp.asarray(x, jnp.float32) for x in normalization))
        if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
            key = jax.random.key_data(key)
        average = {"params": params, "batch_stats": batch_stats} if ema else None
        return cls(
            step=jnp.zeros((), jnp.int32),
            key=key,
            params=params,
            batch_stats=batch_stats,
            opt_state=optimizer.init(params),
            ema=jax.tree.map(jnp.copy, average),  # its own buffers, for a step may donate them
            normalization=normalization,
        )

    def variables(self) -> dict:
        """What `model.apply` takes for evaluation: the moving averages where they are kept."""
        return self.ema or {"params": self.params, "batch_stats": self.batch_stats}
