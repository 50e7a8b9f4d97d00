"""Noise that a denoising auto-encoder learns to take away, as `f(key, image)`."""

import jax
import jax.numpy as jnp

from ..ops.requirements import require_between, require_not_negative


def mask_pixels(key, image, *, share=0.25):
    """The image `[H, W, C]` with a share of its values set to zero.

    Reference: Vincent, Larochelle, Lajoie, Bengio, Manzagol 2010, "Stacked denoising
    autoencoders", section 3.3, masking noise.

    >>> float(mask_pixels(jax.random.key(0), jnp.ones((100, 100, 1)), share=0.25).mean().round(2))
    0.75
    """
    require_between(0, 1, share=share)
    return jnp.where(jax.random.bernoulli(key, share, image.shape), 0, image)


def add_gaussian_noise(key, image, *, deviation=0.1):
    """The image `[H, W, C]` and normally distributed noise, not clipped.

    Reference: Vincent et al. 2010, section 3.3, additive isotropic Gaussian noise.

    >>> noisy = add_gaussian_noise(jax.random.key(0), jnp.ones((100, 100, 1)), deviation=0.5)
    >>> float(noisy.std().round(1))
    0.5
    """
    require_not_negative(deviation=deviation)
    return image + deviation * jax.random.normal(key, image.shape, image.dtype)


def add_salt_and_pepper(key, image, *, share=0.25, low=0.0, high=1.0):
    """The image `[H, W, C]` with a share of its values set to the lowest or to the highest, at even
    chances.

    Reference: Vincent et al. 2010, section 3.3, salt-and-pepper noise.

    >>> image = add_salt_and_pepper(jax.random.key(0), jnp.full((100, 100, 1), 0.5), share=1.0)
    >>> sorted(set(image.ravel().tolist()))
    [0.0, 1.0]
    """
    require_between(0, 1, share=share)
    where_key, which_key = jax.random.split(key)
    where = jax.random.bernoulli(where_key, share, image.shape)
    noise = jnp.where(jax.random.bernoulli(which_key, 0.5, image.shape), high, low)
    return jnp.where(where, noise.astype(image.dtype), image)


CORRUPTIONS = {
    "mask": mask_pixels,
    "gaussian": add_gaussian_noise,
    "salt_and_pepper": add_salt_and_pepper,
}
