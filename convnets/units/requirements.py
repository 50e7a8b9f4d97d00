"""What learning from examples asks of them, answered by one clear error."""

import jax.numpy as jnp


def require_examples(features, labels, *, floats: bool = True):
    """Raises ValueError unless there is one of the labels `[N]` for each of the features, and
    TypeError for features that are no floats, where they are to be.

    >>> require_examples(jnp.ones((3, 2)), jnp.ones(2))
    Traceback (most recent call last):
    ValueError: expected features [N, D] and labels [N], came (3, 2) and (2,)
    """
    if features.ndim != 2 or labels.shape != features.shape[:1]:
        raise ValueError(
            f"expected features [N, D] and labels [N], came {features.shape} and {labels.shape}"
        )
    if floats and not jnp.issubdtype(features.dtype, jnp.floating):
        raise TypeError(f"expected features of floats, came {features.dtype}")
