"""Looking at what networks have learned."""

from .attribution import (
    IntegratedGradients,
    guided_backpropagation,
    heat,
    integrated_gradients,
    saliency,
    smooth_gradient,
)
from .curves import plot_curves, read_curves
from .deconvnet import project_down
from .embedding import embed, nearest_neighbors, plot_embedding, read_features
from .features import (
    WeightedSum,
    decode_units,
    plot_weighted_sum,
    strongest_images,
    strongest_units,
    weigh_features,
)
from .filters import arrange_grid, plot_grid, plot_maps
from .gabor import GaborFit, evaluate_gabor, fit_gabor, tuning_curve
from .gradcam import grad_cam
from .histograms import Histogram, plot_histograms, tree_histograms
from .inversion import Inversion, invert_features
from .mistakes import (
    Mistakes,
    confident_mistakes,
    count_confusions,
    plot_confusions,
    plot_mistakes,
)
from .occlusion import occlude
from .overlays import plot_attributions
from .patches import Strongest, cut_patches, find_strongest, plot_patches, project_patches
from .stimulus import Stimulus, best_stimulus
from .units import Unit, compute_endpoints

__all__ = [
    "GaborFit",
    "Histogram",
    "IntegratedGradients",
    "Inversion",
    "Mistakes",
    "Stimulus",
    "Strongest",
    "Unit",
    "WeightedSum",
    "arrange_grid",
    "best_stimulus",
    "compute_endpoints",
    "confident_mistakes",
    "count_confusions",
    "cut_patches",
    "decode_units",
    "embed",
    "evaluate_gabor",
    "find_strongest",
    "fit_gabor",
    "grad_cam",
    "guided_backpropagation",
    "heat",
    "integrated_gradients",
    "invert_features",
    "nearest_neighbors",
    "occlude",
    "plot_attributions",
    "plot_confusions",
    "plot_curves",
    "plot_embedding",
    "plot_grid",
    "plot_histograms",
    "plot_maps",
    "plot_mistakes",
    "plot_patches",
    "plot_weighted_sum",
    "project_down",
    "project_patches",
    "read_curves",
    "read_features",
    "saliency",
    "smooth_gradient",
    "strongest_images",
    "strongest_units",
    "tree_histograms",
    "tuning_curve",
    "weigh_features",
]
