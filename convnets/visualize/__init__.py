"""Looking at what networks have learned.

Functions of a network speak of models, variables, images and units in one way. A model is a
classifier or a backbone, run in evaluation; its variables are those of `TrainState.variables()`.
Images are those of `convnets.prepare`: uint8, or floats in [0, 1], `[B, H, W, C]`, with the
normalization that the network was trained with (`state.normalization`); or floats of any range that
are prepared already, and no normalization. Gradients are those to the images before normalization,
in units of [0, 1]. A unit is `Unit(channel, endpoint, place)`.
"""

from .attribution import (
    IntegratedGradients,
    guided_backpropagation,
    heat,
    integrated_gradients,
    saliency,
    smooth_gradient,
)
from .curves import plot_curves, read_curves
from .deconvolution import deconvnet
from .embedding import nearest_neighbors, plot_embedding, read_features, tsne
from .features import (
    WeightedSum,
    decode_units,
    plot_weighted_sum,
    strongest_images,
    strongest_units,
    weigh_features,
)
from .filters import arrange_grid, first_filters, plot_grid, plot_maps
from .gabor import GaborFit, evaluate_gabor, fit_gabor, plot_tuning, tuning_curve
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
    "deconvnet",
    "evaluate_gabor",
    "find_strongest",
    "first_filters",
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
    "plot_tuning",
    "plot_weighted_sum",
    "project_patches",
    "read_curves",
    "read_features",
    "saliency",
    "smooth_gradient",
    "strongest_images",
    "strongest_units",
    "tree_histograms",
    "tsne",
    "tuning_curve",
    "weigh_features",
]
