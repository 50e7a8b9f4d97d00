"""What is left of an image in a layer: the image that gives the same features."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ..errors import UserError, unknown
from ..ops import collective, image
from .arguments import require_images
from .units import endpoint_shapes, run_endpoints


class Inversion(NamedTuple):
    """Images `[B, H, W, C]` in [0, 1], and how far their features are from those of the given ones,
    `[B]`: the squared distance as a share of the features' own squares."""

    images: np.ndarray
    distances: np.ndarray


def invert_features(
    model, variables, images, endpoint: str, *, smoothness=1e-3, steps=256, learning_rate=0.02,
    seed=0, normalization=None,
) -> Inversion:  # fmt: skip
    """Images that are found from the features of others alone, from noise on.

    `‖f(x) - f(x0)‖² / ‖f(x0)‖² + smoothness * mean over pixels of the squared differences to the
    next ones` is made small by Adam, pixels kept in [0, 1].

    Args:
      model, variables, images, normalization: see `convnets.visualize`; images in [0, 1].
      endpoint: whose features they are, a map or not.
      smoothness: the weight of what is smooth against what is alike; the next pixels are that to
        the right and that below, and channels add up.
      steps, learning_rate: of Adam.
      seed: of the noise.

    Raises: UserError for an endpoint that is not there, and for options out of their range.

    Reference: Mahendran, Vedaldi 2015, "Understanding deep image representations by inverting
    them", equations 1 to 4 with beta = 2. Differs: pixels are kept in their range where the paper
    has a penalty for large ones.

    >>> from convnets import create_model
    >>> model, images = create_model("lenet5"), np.ones((1, 28, 28, 1), np.float32)
    >>> variables = model.init(jax.random.key(0), images, train=False)
    >>> invert_features(model, variables, images, "c3", steps=2).images.shape
    (1, 28, 28, 1)
    """
    images = image.to_float(require_images(images, normalization))
    shapes = endpoint_shapes(model, variables, images)
    if endpoint not in shapes:
        raise unknown("endpoint", endpoint, shapes)
    if smoothness < 0 or steps < 0 or learning_rate <= 0:
        raise UserError(
            f"smoothness and steps are not below 0, learning_rate above; came {smoothness}, "
            f"{steps}, {learning_rate}"
        )
    features = _features(model, variables, images, normalization, endpoint)
    keys = collective.example_keys(jax.random.key(seed), len(images))
    noise = jax.vmap(jax.random.uniform, (0, None))(keys, images.shape[1:])
    found, state = noise, optax.adam(learning_rate).init(noise)
    descend = partial(_descend, model, variables, features, normalization)
    for _ in range(steps):
        found, state = descend(found, state, smoothness, learning_rate, endpoint=endpoint)
    distances = _distance(_features(model, variables, found, normalization, endpoint), features)
    return Inversion(np.asarray(found), np.asarray(distances))


def _distance(found, features):
    axes = tuple(range(1, features.ndim))
    size = jnp.square(features).sum(axes)
    return jnp.square(found - features).sum(axes) / jnp.where(size == 0, 1, size)


def _roughness(images):
    """The mean over pixels of the squared differences to the next ones below and to the right."""
    down, right = jnp.diff(images, axis=1), jnp.diff(images, axis=2)
    total = jnp.square(down).sum((1, 2, 3)) + jnp.square(right).sum((1, 2, 3))
    return total / (images.shape[1] * images.shape[2])


@partial(jax.jit, static_argnums=(0, 4))
def _features(model, variables, images, normalization, endpoint):
    endpoints = run_endpoints(model, variables, image.normalize(images, normalization))
    return endpoints[endpoint].astype(jnp.float32)


@partial(jax.jit, static_argnums=0, static_argnames="endpoint")
def _descend(
    model, variables, features, normalization, images, state, smoothness, learning_rate, *, endpoint
):
    def loss(images):
        found = _features(model, variables, images, normalization, endpoint)
        return (_distance(found, features) + smoothness * _roughness(images)).sum()

    updates, state = optax.adam(learning_rate).update(jax.grad(loss)(images), state)
    return jnp.clip(optax.apply_updates(images, updates), 0, 1), state
