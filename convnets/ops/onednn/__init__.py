"""oneDNN's convolutions, and loops of our own, called from compiled programs on the CPU."""

from .calls import convolution_call
from .library import available, version

__all__ = ["available", "convolution_call", "version"]
