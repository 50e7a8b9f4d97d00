"""oneDNN's convolutions, called from inside compiled programs on the CPU."""

from .calls import convolution_call
from .library import available, version

__all__ = ["available", "convolution_call", "version"]
