"""Fukushima's Neocognitron: S-cells that learn what they see often, C-cells that forgive shifts."""

from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from ..errors import UserError
from ..layers import relu
from ..ops import convolve, safe_sqrt
from ..ops.convolution import require_images
from .entry import Entry


class Pair(NamedTuple):
    """One S-layer and the C-layer behind it.

    Attributes:
      planes: of S-cells, and of C-cells.
      field, padding: side of what an S-cell sees, and cells of zeros around the layer.
      blur: side of what a C-cell sees; its layer is smaller by `blur - 1`.
      selectivity: r, how little of a trained feature may be missing: an S-cell answers where
        its cosine with the feature is above r / (1 + r).
      rate: q, how much a winner is reinforced.
      learning: r while the layer learns, where it is another one: a layer that is more selective
        then has more different features, to each of which it answers broadly afterward
        (Fukushima, Tanigawa 1996; Fukushima 2003).
    """

    planes: int
    field: int
    padding: int
    blur: int
    selectivity: float
    rate: float
    learning: float | None = None


# The simulation of 1980: 16x16, 10x10, 8x8, 6x6, 2x2, 1x1 cells a plane; its r and q.
PAIRS = (
    Pair(24, 5, 2, 7, selectivity=4.0, rate=1.0),
    Pair(24, 5, 1, 3, selectivity=1.5, rate=16.0),
    Pair(24, 5, 0, 2, selectivity=1.5, rate=16.0),
)
WEAK = 1e-4  # the most that an excitatory weight is before it has learned
SATURATION = 0.5  # alpha
DECAY = 0.9  # gamma and delta: what a mask keeps for each cell of distance from its center


class Neocognitron(nn.Module):
    """Pairs of S- and C-layers.

    Every value is a rate of firing: images are non-negative, light on dark, and what is below 0 in
    them counts as 0.

    Attributes:
      pairs: the layers.

    Parameters: `s1/a [field, field, C, planes]` and `s1/b [planes]`, the excitatory and inhibitory
    weights that `unsupervised.competition` learns without gradients; then `s2`, …

    Endpoints: `s1`, `c1`, `s2`, …

    Raises: UserError for images smaller than the fields need, TypeError for integers.

    Reference: Fukushima 1980, "Neocognitron: a self-organizing neural network model for a mechanism
    of pattern recognition unaffected by shift in position", sections 2 and 5. Differs: C-layers
    shrink by their own width, where the paper leaves cells out; all masks decay by 0.9 a cell.

    >>> Neocognitron().init_with_output(
    ...     jax.random.key(0), jnp.ones((1, 16, 16, 1)), train=False)[0]["c3"].shape
    (1, 1, 1, 24)
    """

    pairs: tuple[Pair, ...] = PAIRS

    @nn.compact
    def __call__(self, images, *, train: bool) -> dict:
        require_images(images, "Neocognitron")
        x, endpoints = relu(images), {}
        for number, pair in enumerate(self.pairs, 1):
            x = endpoints[f"s{number}"] = SimpleCells(pair, name=f"s{number}")(x)
            x = endpoints[f"c{number}"] = complex_cells(x, pair.blur)
        return endpoints


class SimpleCells(nn.Module):
    """A layer of `simple_cells` and its weights, weak at random and without inhibition at first.

    Parameters: `a [field, field, C, planes]`, `b [planes]`.
    """

    pair: Pair

    @nn.compact
    def __call__(self, x):  # [B, H, W, C] -> [B, H', W', planes]
        pair = Pair(*self.pair)
        shape = (pair.field, pair.field, x.shape[3], pair.planes)
        a = self.param("a", nn.initializers.uniform(WEAK), shape, jnp.float32)
        b = self.param("b", nn.initializers.zeros, (pair.planes,), jnp.float32)
        return simple_cells(x, a, b, selectivity=pair.selectivity, padding=pair.padding)


def simple_cells(x, a, b, *, selectivity: float, padding: int = 0):
    """S-cells: excitation over inhibition, as far as it is above 1.

    `r max((1 + sum a u) / (1 + 2 r / (1 + r) b v) - 1, 0)`, where `v` is `inhibition`.

    Args:
      x: `u`, the C-cells before, `[B, H, W, C]`, not negative.
      a: excitatory weights `[field, field, C, planes]`, not negative.
      b: inhibitory weights `[planes]`, not negative.
      selectivity: r.

    Returns: `[B, H', W', planes]`.

    Reference: Fukushima 1980, equations 1 and 2.

    >>> ones = jnp.ones((1, 1, 1, 1))
    >>> simple_cells(ones, ones, jnp.zeros(1), selectivity=2.0).item()
    2.0
    """
    excitation = convolve(x, a.astype(x.dtype), padding=padding)
    inhibitory = inhibition(x, a.shape[0], padding) * b.astype(x.dtype).reshape(1, 1, 1, -1)
    shunt = 1 + 2 * selectivity / (1 + selectivity) * inhibitory
    return selectivity * relu((1 + excitation) / shunt - 1)


def inhibition(x, field: int, padding: int = 0):
    """V-cells: the weighted root mean square of what an S-cell sees, `[B, H', W', 1]`.

    `sqrt(sum c u^2)`, with `mask(field)` over the number of planes as `c`, whose sum is 1. Its
    derivative where nothing is seen is 0.

    Reference: Fukushima 1980, equation 3.
    """
    c = jnp.asarray(mask(field), x.dtype)[:, :, None, None]
    energy = convolve((x * x).mean(3, keepdims=True), c, padding=padding)
    return safe_sqrt(energy)


def complex_cells(s, blur: int):
    """C-cells: S-cells of one plane blurred, inhibited by those of all planes, and saturated.

    `psi((1 + sum d u) / (1 + v) - 1)` with `psi(x) = x / (0.5 + x)` for `x > 0`, else 0; `d` is
    `mask(blur)`, `v` the mean of `sum d u` over the planes.

    Args:
      s: `[B, H, W, planes]`.

    Returns: `[B, H - blur + 1, W - blur + 1, planes]`, from 0 to below 1.

    Reference: Fukushima 1980, equations 4 to 6.

    >>> complex_cells(jnp.ones((1, 2, 2, 1)), 2).item()
    0.0
    """
    planes = s.shape[3]
    d = jnp.asarray(mask(blur), s.dtype)[:, :, None, None]
    blurred = convolve(s, jnp.tile(d, (1, 1, 1, planes)), groups=planes)
    x = relu((1 + blurred) / (1 + blurred.mean(3, keepdims=True)) - 1)
    return x / (SATURATION + x)


def mask(side: int) -> np.ndarray:
    """Fixed weights `[side, side]` of the sum 1 that fall by 0.9 a cell from the center outward.

    >>> mask(3).round(3)[1].tolist()
    [0.112, 0.124, 0.112]
    """
    if side < 1:
        raise UserError(f"a mask has at least one cell, came {side}")
    place = np.arange(side) - (side - 1) / 2
    weights = DECAY ** np.hypot(place[:, None], place)
    return weights / weights.sum()


MODELS = {"neocognitron": Entry(Neocognitron, (16, 16, 1), 10)}
