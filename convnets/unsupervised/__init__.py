"""Learning without labels."""

from . import competition
from .local_autoencoder import LocalAutoencoder, LocalStage, local_reconstruction_loss

__all__ = ["LocalAutoencoder", "LocalStage", "competition", "local_reconstruction_loss"]
