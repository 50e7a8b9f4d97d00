"""Looking at what networks have learned."""

from .attribution import (
    IntegratedGradients,
    guided_backpropagation,
    heat,
    integrated_gradients,
    saliency,
    smooth_gradient,
)
from .deconvnet import project_down
from .filters import arrange_grid, plot_grid
from .gabor import GaborFit, evaluate_gabor, fit_gabor, tuning_curve
from .gradcam import grad_cam
from .overlays import plot_attributions
from .units import Unit, compute_endpoints

__all__ = [
    "GaborFit",
    "IntegratedGradients",
    "Unit",
    "arrange_grid",
    "compute_endpoints",
    "evaluate_gabor",
    "fit_gabor",
    "grad_cam",
    "guided_backpropagation",
    "heat",
    "integrated_gradients",
    "plot_attributions",
    "plot_grid",
    "project_down",
    "saliency",
    "smooth_gradient",
    "tuning_curve",
]
