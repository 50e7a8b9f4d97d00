"""Patches made fit for filters to be learned from them, and filters made fit for plain patches."""

import dataclasses

import numpy as np

from .. import data
from ..errors import UserError
from ..ops import image
from .whitening import Whitening, fit_whitening

BLANK = 0.1  # of the largest deviation: patches below show nothing but noise
ROUNDING = 1e-6
SAMPLE = 20_000  # patches from which a whitening is fitted
CHUNK = 1024


def whiten_patches(dataset: data.Dataset, epsilon: float) -> tuple[data.Dataset, Whitening]:
    """The patches of a data set that show something, at one contrast, whitened.

    Patches are left out whose values deviate from their mean by less than a tenth of what those of
    the training split's richest patch do. Of the others each has its mean taken away and is divided
    by its deviation; then they are whitened (ZCA), so that what is learned from them is more than
    how alike neighbors are.

    Args:
      dataset: of patches, as `data.sample_patches` makes.
      epsilon: added to the variances, which are 1 in the mean; see `fit_whitening`.

    Returns: the data set, of float32 images, and the whitening of vectors, fitted to at most
      20,000 patches of the training split.

    Raises: UserError for patches that are all blank, or too few to whiten.

    Reference: Coates, Lee, Ng 2011, "An analysis of single-layer networks in unsupervised feature
    learning", section 3.1.

    >>> patches = data.sample_patches(data.load_dataset("digits"), 5, 2)
    >>> white, whitening = whiten_patches(patches, epsilon=0.1)
    >>> len(white.train) < len(patches.train), white.image_shape, whitening.matrix.shape
    (True, (5, 5, 1), (25, 25))
    """

    def vectors(images):
        images = image.prepare(images, dataset.normalization)
        return np.asarray(images).reshape(len(images), -1)

    def read(source, indices, function):
        parts = np.split(indices, range(CHUNK, len(indices), CHUNK))
        return np.concatenate([function(vectors(source.batch(x)["image"])) for x in parts])

    def deviations(source):
        return read(source, np.arange(len(source)), lambda x: x.std(1))

    found = {name: deviations(source) for name, source in dataset.splits.items()}
    least = BLANK * found["train"].max()
    if not least > ROUNDING:
        raise UserError("the patches are all blank: there is nothing to learn filters from")
    kept = {
        name: source.select(np.flatnonzero(found[name] > least))
        for name, source in dataset.splits.items()
    }
    count = len(kept["train"])
    chosen = np.linspace(0, count - 1, min(count, SAMPLE)).astype(int)
    sample = read(kept["train"], chosen, normalize_contrast)
    whitening = fit_whitening(sample, epsilon=epsilon)

    def whiten(images):
        return whitening.apply(normalize_contrast(vectors(images))).reshape(images.shape)

    return data.map_images(dataclasses.replace(dataset, **kept), whiten), whitening


def normalize_contrast(x):
    """Vectors `[N, D]`, each with mean 0 and deviation 1.

    >>> normalize_contrast(np.array([[1.0, 3.0]])).tolist()
    [[-1.0, 1.0]]
    """
    x = x - x.mean(1, keepdims=True)
    return x / x.std(1, keepdims=True)


def fold_whitening(layer: dict, whitening: Whitening) -> dict:
    """A layer that makes of a patch what another makes of it whitened, but for its contrast.

    Args:
      layer: `{"kernel": [..., K], "bias": [K]}`, learned from patches of `whiten_patches`.
      whitening: that these went through.

    Returns: the same, with biases in any case, for patches as they are: `(q - mean) @ matrix @
      kernel + bias`, where `q` is the patch without its mean. By its deviation nothing is divided,
      which is no linear map: a unit answers to a patch of twice the contrast with twice as much,
      but for its bias.

    >>> whitening = fit_whitening(np.random.default_rng(0).normal(size=(50, 4)))
    >>> fold_whitening({"kernel": np.eye(4), "bias": np.zeros(4)}, whitening)["kernel"].shape
    (4, 4)
    """
    kernel = whitening.matrix @ np.asarray(layer["kernel"]).reshape(len(whitening.matrix), -1)
    bias = layer.get("bias", 0) - whitening.mean @ kernel
    return {**layer, "kernel": kernel - kernel.mean(0, keepdims=True), "bias": bias}
