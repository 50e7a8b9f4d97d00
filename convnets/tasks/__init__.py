"""What a network is for: a head, its target, its loss and its metric together."""

from .classification import classification_loss

__all__ = ["classification_loss"]
