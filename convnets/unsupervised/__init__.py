"""Learning without labels."""

from . import competition
from .local_autoencoder import LocalAutoencoder, LocalStage, reconstruction_loss

__all__ = ["LocalAutoencoder", "LocalStage", "competition", "reconstruction_loss"]
