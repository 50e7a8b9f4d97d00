"""Looking at what networks have learned."""

from .filters import arrange_grid, plot_grid
from .gabor import GaborFit, evaluate_gabor, fit_gabor, tuning_curve

__all__ = [
    "GaborFit",
    "arrange_grid",
    "evaluate_gabor",
    "fit_gabor",
    "plot_grid",
    "tuning_curve",
]
