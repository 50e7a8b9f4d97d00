"""Learning without labels."""

from . import competition

__all__ = ["competition"]
