"""What a network is for: a head, its target, its loss and its metric together."""

from .classification import average_views, classification_loss

__all__ = ["average_views", "classification_loss"]
