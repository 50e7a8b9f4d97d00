"""What learning from examples asks of them, answered by one clear error."""


def require_examples(features, labels):
    """Raises ValueError unless there is one of the labels `[N]` for each of the features.

    >>> require_examples(jnp.ones((3, 2)), jnp.ones(2))
    Traceback (most recent call last):
    ValueError: expected features [N, D] and labels [N], came (3, 2) and (2,)
    """
    if features.ndim != 2 or labels.shape != features.shape[:1]:
        raise ValueError(
            f"expected features [N, D] and labels [N], came {features.shape} and {labels.shape}"
        )
