"""Sparse codes of whole images: maps, few of whose values are not 0, each of which puts its filter
at its place."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from .. import ops
from ..errors import UserError
from ..layers import Conv, tanh
from ..layers.initializers import normal
from ..ops import collective
from .sparse_coding import at_length_one, descend_accelerated, soft_threshold


def infer_maps(
    reconstruct, images, start, penalty, *, steps: int = 50, prediction=None, closeness: float = 0.0
):
    """The maps of least `1/2 ‖R z - x‖² + penalty ‖z‖₁ + closeness/2 ‖z - prediction‖²`.

    Args:
      reconstruct: R, linear, from maps to images; no image hears of another's maps.
      images: `[B, H, W, C]`.
      start: maps to begin with, `[B, H', W', K]`.
      penalty, steps, prediction, closeness: as of `infer_codes`, accelerated.

    Returns: as `start`.

    Reference: Zeiler et al. 2010, "Deconvolutional networks"; Kavukcuoglu, Sermanet, Boureau,
    Gregor, Mathieu, LeCun 2010, "Learning convolutional feature hierarchies for visual
    recognition", equation 3 (prediction).

    >>> start, images = jnp.zeros((1, 1, 1, 1)), jnp.full((1, 1, 1, 1), 3.0)
    >>> round(infer_maps(lambda maps: maps, images, start, 1.0).item(), 3)
    2.0
    """
    start = collective.varying_over_data(start)  # and so is what is transposed
    transpose = jax.linear_transpose(reconstruct, start)
    largest = largest_eigenvalues(lambda maps: transpose(reconstruct(maps))[0], start)
    rate = 1 / (largest + closeness)

    def descend(maps):
        (gradient,) = transpose(reconstruct(maps) - images)
        if prediction is not None:
            gradient += closeness * (maps - prediction)
        return soft_threshold(maps - rate * gradient, rate * penalty)

    return descend_accelerated(descend, start, steps)


class ConvolutionalPredictiveCoder(nn.Module):
    """Filters whose weighted sum at all places is the image, and an encoder that predicts the
    weights: `g tanh(x * W + b)`. `sparse_coding_loss` trains it.

    Attributes:
      features: how many filters.
      kernel_size: of the filters and the encoder's, odd; maps have the size of the images.

    Returns: `{"code": [B, H, W, features], "reconstruction": …}`, the encoder's prediction and what
    the filters, at length 1, make of it.

    Parameters: `encoder` (a convolution), `gain [features]`, `dictionary [kernel H, kernel W, C,
    features]`.

    Raises: UserError for filters of an even size.

    Reference: Kavukcuoglu et al. 2010, equations 2 and 3. Differs: maps of the images' size.

    >>> model, images = ConvolutionalPredictiveCoder(4, 3), jnp.ones((2, 6, 6, 1))
    >>> found, _ = model.init_with_output(jax.random.key(0), images, train=False)
    >>> found["code"].shape, found["reconstruction"].shape
    ((2, 6, 6, 4), (2, 6, 6, 1))
    """

    features: int
    kernel_size: int = 7

    @nn.compact
    def __call__(self, images, *, train: bool) -> dict:
        if self.kernel_size % 2 == 0:
            raise UserError(f"filters have an odd size, not {self.kernel_size}")
        size = self.kernel_size
        gain = self.param("gain", nn.initializers.ones, (self.features,), jnp.float32)
        shape = (size, size, images.shape[3], self.features)
        params = {"dictionary": self.param("dictionary", normal(1.0), shape, jnp.float32)}
        response = Conv(self.features, size, padding=size // 2, name="encoder")(images)
        code = gain.reshape(1, 1, 1, -1) * tanh(response)
        return {"code": code, "reconstruction": self.reconstruct(params, code)}

    @nn.nowrap
    def reconstruct(self, params, maps):
        """The images that maps stand for: `[B, H, W, features] -> [B, H, W, C]`."""
        kernel = at_length_one(params["dictionary"], (0, 1, 2))
        return ops.convolve_transposed(maps, kernel, padding=self.kernel_size // 2)

    @nn.nowrap
    def infer(self, params, images, penalty, *, steps: int, prediction=None, closeness=0.0):
        """The best maps of images, as `infer_maps` finds them from the prediction on."""
        start = prediction
        if start is None:
            start = jnp.zeros((*images.shape[:3], self.features), images.dtype)
        near = {"prediction": prediction, "closeness": closeness}
        made = partial(self.reconstruct, params)
        return infer_maps(made, images, start, penalty, steps=steps, **near)


def largest_eigenvalues(apply, like, steps: int = 10):
    """An estimate of the largest eigenvalue of each example's positive linear map: what power
    iteration has come to, and a tenth more, for it comes from below.

    Args:
      apply: the maps, from `[B, …]` to the same shape, of which none sees another's example.
      like: an array `[B, …]` of that shape and type.

    Returns: `[B, 1, …]`, of examples alone: they do not depend on who else is in the batch.

    >>> scales = jnp.array([[1.0, 40.0], [20.0, 2.0]])
    >>> largest_eigenvalues(lambda x: scales * x, scales).round().tolist()
    [[44.0], [22.0]]
    """
    inner = tuple(range(1, like.ndim))
    start = jax.random.normal(jax.random.key(0), like.shape[1:], like.dtype)
    start = jnp.broadcast_to(start[None], like.shape)
    start = collective.varying_over_data(at_length_one(start, inner))
    direction = lax.fori_loop(0, steps, lambda _, x: at_length_one(apply(x), inner), start)
    return 1.1 * jnp.sqrt(jnp.square(apply(direction)).sum(inner, keepdims=True))
