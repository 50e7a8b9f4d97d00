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
from .patches import Strongest, cut_patches, find_strongest, plot_patches
from .units import Unit, compute_endpoints

__all__ = [
    "GaborFit",
    "IntegratedGradients",
    "Strongest",
    "Unit",
    "arrange_grid",
    "compute_endpoints",
    "cut_patches",
    "evaluate_gabor",
    "find_strongest",
    "fit_gabor",
    "grad_cam",
    "guided_backpropagation",
    "heat",
    "integrated_gradients",
    "plot_attributions",
    "plot_grid",
    "plot_patches",
    "project_down",
    "saliency",
    "smooth_gradient",
    "tuning_curve",
]
