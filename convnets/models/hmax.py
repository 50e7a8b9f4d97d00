"""HMAX: Gabor filters and stored examples, each followed by a maximum."""

import math
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ..errors import UserError
from ..ops import convolve, max_pool, sum_pool
from ..ops.convolution import require_images
from .entry import Entry


class Band(NamedTuple):
    """Two neighboring scales of S1, and the C1 cells that take their maximum.

    Attributes:
      sizes: sides of the two filters in pixels.
      sigmas, wavelengths: of their Gabor functions, in pixels.
      pool, stride: side of the grid of a C1 cell, and pixels from one cell to the next.
    """

    sizes: tuple[int, int]
    sigmas: tuple[float, float]
    wavelengths: tuple[float, float]
    pool: int
    stride: int


# Table 1 of Serre et al. 2007.
BANDS = (
    Band((7, 9), (2.8, 3.6), (3.5, 4.6), 8, 4),
    Band((11, 13), (4.5, 5.4), (5.6, 6.8), 10, 5),
    Band((15, 17), (6.3, 7.3), (7.9, 9.1), 12, 6),
    Band((19, 21), (8.2, 9.2), (10.3, 11.5), 14, 7),
    Band((23, 25), (10.2, 11.3), (12.7, 14.1), 16, 8),
    Band((27, 29), (12.3, 13.4), (15.4, 16.8), 18, 9),
    Band((31, 33), (14.6, 15.8), (18.2, 19.7), 20, 10),
    Band((35, 37), (17.0, 18.2), (21.2, 22.8), 22, 11),
)
ORIENTATIONS = (0, 45, 90, 135)
ASPECT = 0.3


class HMAX(nn.Module):
    """The standard model of visual cortex: S1, C1, S2 and C2 cells.

    Bands whose filters are larger than the image are left out; so are, in S2, bands with fewer C1
    cells than a patch. Parameters are the same for every size of image.

    Attributes:
      patch_sizes: sides of the prototypes, in C1 cells.
      prototypes: how many of each size.
      sharpness: how fast an S2 cell falls with the distance, see `s2_cells`.
      bands: of `BANDS`, or others.

    Parameters: `prototypes4 [4, 4, 4, prototypes]` (side, side, orientation, number) and so on.
    They are parameters because they are what the model learns: they go into a checkpoint and can be
    refined by a gradient. As initialized they are noise; `sample_prototypes` gives those of the
    paper.

    Endpoints: `c1_band1`, …, `[B, H', W', 4]`, for the bands that fit, and `c2 [B, N]`, the
    prototypes of the first size before those of the second.

    Raises: UserError for images in which the prototypes of some size fit nowhere, TypeError for
      integers, ValueError for other ranks.

    Reference: Serre, Wolf, Bileschi, Riesenhuber, Poggio 2007, "Robust object recognition with
    cortex-like mechanisms", section 2 and table 1; 1,000 prototypes are its universal dictionary.
    Differs: S1 is divided by the energy under the filter, as in the authors' program; images have
    zeros around them; the sharpness is that of Mutch, Lowe 2008. C2 goes to a dense layer, in the
    paper to a linear SVM or boosting.

    >>> HMAX(patch_sizes=(4,), prototypes=5).init_with_output(
    ...     jax.random.key(0), jnp.ones((1, 28, 28, 1)), train=False)[0]["c2"].shape
    (1, 5)
    """

    patch_sizes: tuple[int, ...] = (4, 8, 12, 16)
    prototypes: int = 250
    sharpness: float = 0.5
    bands: tuple[Band, ...] = BANDS

    @nn.compact
    def __call__(self, images, *, train: bool) -> dict:
        c1 = c1_maps(images, self.bands)
        endpoints = {f"c1_band{number}": cells for number, cells in enumerate(c1, 1)}
        c2 = []
        for size in self.patch_sizes:
            shape = (size, size, len(ORIENTATIONS), self.prototypes)
            init = nn.initializers.uniform(0.5)
            patches = self.param(f"prototypes{size}", init, shape, jnp.float32)
            c2.append(c2_cells(c1, patches.astype(images.dtype), self.sharpness))
        endpoints["c2"] = jnp.concatenate(c2, 1)
        return endpoints


def gabor_filters(size: int, sigma: float, wavelength: float) -> np.ndarray:
    """Filters `[size, size, 1, 4]` of 0, 45, 90 and 135 degrees, with the mean 0 and the norm 1.

    `exp(-(u^2 + 0.3^2 v^2) / (2 sigma^2)) cos(2 pi u / wavelength)`, with `u = x cos t + y sin t`
    and `v = -x sin t + y cos t`.

    Reference: Serre et al. 2007, equation 1. Differs: the paper names neither mean nor norm; they
    are its authors' program's, which also rounds the square to a disc.

    >>> gabor_filters(7, 2.8, 3.5).shape
    (7, 7, 1, 4)
    """
    y, x = np.mgrid[:size, :size] - size // 2
    angles = np.deg2rad(ORIENTATIONS)
    u = x[..., None] * np.cos(angles) + y[..., None] * np.sin(angles)
    v = -x[..., None] * np.sin(angles) + y[..., None] * np.cos(angles)
    filters = np.exp(-(u**2 + ASPECT**2 * v**2) / (2 * sigma**2))
    filters = filters * np.cos(2 * np.pi * u / wavelength)
    filters = filters - filters.mean((0, 1))
    return (filters / np.sqrt((filters**2).sum((0, 1))))[:, :, None]


def s1_cells(images, size: int, sigma: float, wavelength: float):
    """How well each pixel's surroundings match the filters: `[B, H, W, C] -> [B, H, W, 4]`.

    The absolute value of the filtered image (the mean of the channels, zeros around it) over the
    norm of the pixels under the filter: between 0 and 1 whatever the contrast.
    """
    filters = jnp.asarray(gabor_filters(size, sigma, wavelength), images.dtype)
    images = images.mean(3, keepdims=True)
    matches = jnp.abs(convolve(images, filters, padding=size // 2))
    energy = images * images
    for shape, padding in (((size, 1), (size // 2, 0)), ((1, size), (0, size // 2))):
        energy = convolve(energy, jnp.ones((*shape, 1, 1), images.dtype), padding=padding)
    lit = energy > 1e-6
    return jnp.where(lit, matches / jnp.sqrt(jnp.where(lit, energy, 1)), 0)


def c1_maps(images, bands: tuple[Band, ...] = BANDS) -> list:
    """The maximum over each grid of positions and both scales of a band: `[B, H', W', 4]` each.

    Only bands whose larger filter is no larger than the image.

    Reference: Serre et al. 2007, section 2.1, C1.

    >>> [cells.shape[1] for cells in c1_maps(jnp.ones((1, 28, 28, 1)))]
    [6, 4, 3, 3, 2]
    """
    require_images(images, "c1_maps")
    maps = []
    for band in bands:
        if max(*band.sizes, band.pool) > min(images.shape[1:3]):
            continue
        scales = zip(band.sizes, band.sigmas, band.wavelengths)
        first, second = (s1_cells(images, *scale) for scale in scales)
        maps.append(max_pool(jnp.maximum(first, second), band.pool, band.stride))
    return maps


def s2_cells(cells, patches, sharpness: float = 0.5):
    """The likeness of every place to every prototype, 1 where they are equal.

    `exp(-sharpness (4 / n)^2 |X - P|^2)` for a patch `X` of n x n cells around the place.

    Args:
      cells: one band of C1, `[B, H, W, 4]`.
      patches: `[n, n, 4, N]`.

    Returns: `[B, H - n + 1, W - n + 1, N]`.

    Reference: Serre et al. 2007, equation 3. Differs: the paper's one `beta` has no number; by
    Mutch, Lowe 2008, "Object class recognition and localization using sparse features with
    limited receptive fields", section 3.4, it falls with the size of the patch.
    """
    size = patches.shape[0]
    squares = sum_pool((cells * cells).sum(3, keepdims=True), size, 1)
    distance = (
        squares - 2 * convolve(cells, patches) + (patches**2).sum((0, 1, 2))[None, None, None]
    )
    return jnp.exp(-sharpness * (4 / size) ** 2 * jnp.maximum(distance, 0))


def c2_cells(c1: list, patches, sharpness: float = 0.5):
    """The largest S2 over all positions and bands: `[B, N]`.

    Raises: UserError where no band has as many cells as a patch.
    """
    size = patches.shape[0]
    best = [s2_cells(cells, patches, sharpness).max((1, 2)) for cells in _wide_enough(c1, size)]
    return jnp.stack(best).max(0)


@partial(jax.jit, static_argnames="backbone")
def sample_prototypes(key, backbone: HMAX, images) -> dict:
    """The parameters of a backbone: patches of C1, each of a random image, band and position.

    Args:
      images: of the training split, floats `[B, H, W, C]`.

    Returns: `params` for `backbone.apply({"params": params}, …)`.

    Reference: Serre et al. 2007, section 2.2.

    >>> backbone = HMAX(patch_sizes=(4,), prototypes=3)
    >>> images = jax.random.uniform(jax.random.key(0), (2, 28, 28, 1))
    >>> params = sample_prototypes(jax.random.key(1), backbone, images)
    >>> bool(abs(backbone.apply({"params": params}, images, train=False)["c2"].max() - 1) < 1e-5)
    True
    """
    c1 = c1_maps(images, backbone.bands)
    params = {}
    for size in backbone.patch_sizes:
        wide = _wide_enough(c1, size)
        key, choice_key, *keys = jax.random.split(key, len(wide) + 2)
        choice = jax.random.randint(choice_key, (backbone.prototypes,), 0, len(wide))
        patches = [_cut(k, cells, size, backbone.prototypes) for k, cells in zip(keys, wide)]
        chosen = jnp.stack(patches)[choice, jnp.arange(backbone.prototypes)]
        params[f"prototypes{size}"] = jnp.moveaxis(chosen, 0, 3)
    return params


def _wide_enough(c1: list, size: int) -> list:
    wide = [cells for cells in c1 if min(cells.shape[1:3]) >= size]
    if not wide:
        shapes = [cells.shape[1:3] for cells in c1]
        raise UserError(
            f"prototypes of {size}x{size} cells fit in no band of C1, which has {shapes}; try "
            "larger images, or smaller patch_sizes"
        )
    return wide


def _cut(key, cells, size: int, count: int):
    """Patches `[count, size, size, 4]` from random images and positions."""
    examples, height, width, _ = cells.shape
    places = examples, height - size + 1, width - size + 1
    place = jnp.unravel_index(jax.random.randint(key, (count,), 0, math.prod(places)), places)
    slices = jax.vmap(
        lambda b, i, j: jax.lax.dynamic_slice(cells, (b, i, j, 0), (1, size, size, cells.shape[3]))
    )
    return slices(*place)[:, 0]


MODELS = {"hmax": Entry(HMAX, (140, 140, 1), 101)}
