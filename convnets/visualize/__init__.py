"""Looking at what networks have learned."""

from .features import (
    WeightedSum,
    decode_units,
    plot_weighted_sum,
    strongest_images,
    strongest_units,
    weigh_features,
)
from .filters import arrange_grid, plot_grid
from .gabor import GaborFit, evaluate_gabor, fit_gabor, tuning_curve

__all__ = [
    "GaborFit",
    "WeightedSum",
    "arrange_grid",
    "decode_units",
    "evaluate_gabor",
    "fit_gabor",
    "plot_grid",
    "plot_weighted_sum",
    "strongest_images",
    "strongest_units",
    "tuning_curve",
    "weigh_features",
]
