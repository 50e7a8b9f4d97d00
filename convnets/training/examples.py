"""What the rules that learn from one example after the other are shown."""


def require_examples(features, labels):
    """Raises ValueError unless there is one of the labels `[N]` for each of the features."""
    if features.ndim != 2 or labels.shape != features.shape[:1]:
        raise ValueError(
            f"expected features [N, D] and labels [N], came {features.shape} and {labels.shape}"
        )
