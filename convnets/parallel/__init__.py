"""How a step is compiled and placed on one device or many."""

from .compilation import CompiledStep, compile
from .placement import create_mesh, gather, require_divisible

__all__ = ["CompiledStep", "compile", "create_mesh", "gather", "require_divisible"]
