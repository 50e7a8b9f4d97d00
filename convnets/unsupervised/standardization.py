"""Units brought to one scale, whatever they were filled with."""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ..errors import UserError
from ..layers import ConvTranspose
from .conversion import fill_layer, find_layer, require_kernel

ROUNDING = 1e-5  # of a unit's size: what is less is no variance


def standardize_units(model: nn.Module, variables: Mapping, path: str, images) -> dict:
    """The variables of a network with the units of one layer at mean 0 and deviation 1.

    Filters that were learned one layer at a time are of any length: the inputs of their units, and
    so all that is above, run away from where random filters begin. Kernels and biases are changed,
    and what the units tell apart stays the same. A layer without biases keeps its means, a unit
    without variance stays as it is.

    Args:
      model: `model.apply(variables, images, train=False)`.
      variables: of the model; they stay as they are.
      path: of a dense layer or a convolution in its parameters, as `backbone/conv1`.
      images: float `[B, H, W, C]`, normalized, over whose places the mean is too.

    Raises: UserError for a layer that is not there or has no kernel, for transposed convolutions,
    for no images, and for images of which it makes what is not finite.

    Reference: Krähenbühl, Doersch, Donahue, Darrell 2016, "Data-dependent initializations of
    convolutional neural networks", section 3.1.

    >>> from convnets.models import MLP
    >>> model, images = MLP((3,)), jax.random.uniform(jax.random.key(0), (9, 2, 2, 1))
    >>> variables = model.init(jax.random.key(0), images, train=False)
    >>> found = standardize_units(model, variables, "dense1", images)["params"]["dense1"]
    >>> (images.reshape(9, 4) @ found["kernel"] + found["bias"][None]).std(0).round(3).tolist()
    [1.0, 1.0, 1.0]
    """
    layer = find_layer(variables["params"], path)
    require_kernel(layer, path)
    if not len(images):
        raise UserError(f"units of {path} cannot be brought to one scale over no images")
    mean, deviation = _moments(model, variables, images, tuple(path.split("/")))
    if not np.isfinite(deviation).all():
        raise UserError(f"what {path} makes of the images is not finite")
    varies = deviation > ROUNDING * jnp.hypot(mean, deviation)
    mean, deviation = jnp.where(varies, mean, 0), jnp.where(varies, deviation, 1)
    found = {"kernel": layer["kernel"] / deviation.reshape(*[1] * (layer["kernel"].ndim - 1), -1)}
    if "bias" in layer:
        found["bias"] = (layer["bias"] - mean) / deviation
    return {**variables, "params": fill_layer(variables["params"], path, found)}


def _moments(model, variables, images, path):
    """Mean and deviation of what each unit of a layer makes of images."""

    def wanted(module, method):
        mine = module.path == path and method == "__call__"
        if mine and isinstance(module, ConvTranspose):
            raise UserError(f"{'/'.join(path)} is transposed: its units lie crosswise")
        return mine

    @jax.jit
    def measure(variables, images):
        _, found = model.apply(
            variables,
            images,
            train=False,
            capture_intermediates=wanted,
            mutable=["intermediates"],
        )
        values = jnp.concatenate([x.reshape(-1, x.shape[-1]) for x in jax.tree.leaves(found)])
        return values.mean(0), values.std(0)

    return measure(variables, images)
