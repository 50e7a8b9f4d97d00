"""Learning without labels: auto-encoders, sparse codes, independent components, Boltzmann machines,
deconvolutional networks, clusters, competition. Each trains by a loss function through the same
steps as everything else."""

from . import competition
from .autoencoder import Autoencoder, ConvAutoencoder, DenseAutoencoder, DenseDecoder
from .boltzmann import RBM, ConvolutionalRBM
from .clustering import KMeans, clustering_loss
from .consistency import consistency_loss
from .contrastive import contrastive_divergence_loss
from .conversion import encoder_layer, fill_layer
from .convolutional_coding import ConvolutionalPredictiveCoder, infer_maps
from .corruption import CORRUPTIONS, add_gaussian_noise, add_salt_and_pepper, mask_pixels
from .deconvolution import DeconvolutionalNetwork, deconvolution_loss
from .ica import ReconstructionICA, amari_distance, reconstruction_ica_loss
from .local_autoencoder import LocalAutoencoder, LocalStage, local_reconstruction_loss
from .patches import fold_whitening, whiten_patches
from .reconstruction import reconstruction_loss
from .sparse_coding import PredictiveCoder, infer_codes, sparse_coding_loss
from .standardization import standardize_units
from .whitening import Whitening, fit_whitening

__all__ = [
    "CORRUPTIONS",
    "RBM",
    "Autoencoder",
    "ConvAutoencoder",
    "ConvolutionalPredictiveCoder",
    "ConvolutionalRBM",
    "DeconvolutionalNetwork",
    "DenseAutoencoder",
    "DenseDecoder",
    "KMeans",
    "LocalAutoencoder",
    "LocalStage",
    "PredictiveCoder",
    "ReconstructionICA",
    "Whitening",
    "add_gaussian_noise",
    "add_salt_and_pepper",
    "amari_distance",
    "clustering_loss",
    "competition",
    "consistency_loss",
    "contrastive_divergence_loss",
    "deconvolution_loss",
    "encoder_layer",
    "fill_layer",
    "fit_whitening",
    "fold_whitening",
    "infer_codes",
    "infer_maps",
    "local_reconstruction_loss",
    "mask_pixels",
    "reconstruction_ica_loss",
    "reconstruction_loss",
    "sparse_coding_loss",
    "standardize_units",
    "whiten_patches",
]
