"""What was learned without labels, as the parameters of a layer of a network."""

from collections.abc import Mapping

import jax.numpy as jnp

from ..errors import UserError, unknown
from .autoencoder import ConvAutoencoder, DenseAutoencoder
from .boltzmann import RBM, ConvolutionalRBM
from .clustering import KMeans
from .convolutional_coding import ConvolutionalPredictiveCoder
from .ica import ReconstructionICA
from .sparse_coding import PredictiveCoder

LEARNERS = (
    "DenseAutoencoder",
    "ConvAutoencoder",
    "RBM",
    "ConvolutionalRBM",
    "PredictiveCoder",
    "ConvolutionalPredictiveCoder",
    "ReconstructionICA",
    "KMeans",
)


def encoder_layer(learner, variables) -> dict:
    """The first layer of a learner's encoder, `{"kernel": …, "bias": …}`.

    Args:
      learner: `DenseAutoencoder` or `ConvAutoencoder`; `RBM` or `ConvolutionalRBM`, whose hidden
        units have sigmoids of their inputs for probabilities; `PredictiveCoder` and
        `ConvolutionalPredictiveCoder`, whose encoders have a `gain` besides; `ReconstructionICA`,
        whose filters have no biases; `KMeans`, whose filters are the centers, less the mean of
        each, at length 1 (Coates, Ng 2011, "The importance of encoding versus training with sparse
        coding and vector quantization"), and biases 0.
      variables: what it learned, `{"params": …, "batch_stats": …}`.

    Raises: UserError for another learner.

    >>> import jax
    >>> model = DenseAutoencoder((5,))
    >>> variables = model.init(jax.random.key(0), jnp.ones((1, 2, 2, 1)), train=False)
    >>> encoder_layer(model, variables)["kernel"].shape
    (4, 5)
    """
    params = variables.get("params", {})
    if isinstance(learner, DenseAutoencoder | ConvAutoencoder):
        return dict(params["encoder1"])
    if isinstance(learner, RBM | ConvolutionalRBM):
        return {"kernel": params["kernel"], "bias": params["hidden_bias"]}
    if isinstance(learner, PredictiveCoder | ConvolutionalPredictiveCoder):
        return {**params["encoder"], "gain": params["gain"]}
    if isinstance(learner, ReconstructionICA):
        return dict(params["filters"])
    if isinstance(learner, KMeans):
        centers = variables["batch_stats"]["centers"]
        centers = centers - centers.mean(1, keepdims=True)
        lengths = jnp.linalg.norm(centers, axis=1, keepdims=True)
        filters = centers / jnp.maximum(lengths, 1e-8)
        return {"kernel": filters.T, "bias": jnp.zeros(len(filters))}
    raise UserError(
        f"{type(learner).__name__} has no encoder that is a layer: give the stage a convert of "
        f"yours, or take one of {', '.join(LEARNERS)}"
    )


def fill_layer(params: Mapping, path: str, found: Mapping) -> dict:
    """The parameters of a network with those of one layer replaced; nothing is changed in place.

    Kernels may be flat where those of the layer are not, of as many values in the same order, and
    the other way: `[k * k * C, features]` for a convolution's `[k, k, C, features]`. What was found
    and the layer does not have, such as a bias, is left out, as long as it has a kernel.

    Args:
      params: of the network.
      path: of the layer in them, as `backbone/conv1`.
      found: `{"kernel": …, "bias": …}`; for layers within it, by name, such as
        `{"filters": {"kernel": …}, "gain": …}`.

    Raises: UserError for a layer that is not there, without a kernel, and for other shapes.

    >>> params = {"conv1": {"kernel": jnp.zeros((2, 2, 1, 3))}}
    >>> filled = fill_layer(params, "conv1", {"kernel": jnp.ones((4, 3)), "bias": jnp.ones(3)})
    >>> filled["conv1"]["kernel"].shape, list(filled["conv1"])
    ((2, 2, 1, 3), ['kernel'])
    """
    layer = find_layer(params, path)
    inner = {name: x for name, x in found.items() if isinstance(x, Mapping)}
    if not inner:
        require_kernel(layer, path)
    for name, x in inner.items():
        layer = fill_layer(layer, name, x)
    found = {name: x for name, x in found.items() if name not in inner}
    shared = {name: jnp.asarray(found[name]) for name in layer if name in found}
    for name, value in shared.items():
        wanted, size = layer[name].shape, layer[name].size
        flat = value.ndim <= 2 or len(wanted) <= 2
        fits = value.shape == wanted or (flat and value.size == size)
        if not fits or (value.shape[-1:] != wanted[-1:]):
            raise UserError(f"{path}/{name} is {wanted}; what was learned is {value.shape}")
    filled = {name: value.reshape(layer[name].shape) for name, value in shared.items()}
    return _replace(params, path.split("/"), {**layer, **filled})


def find_layer(params: Mapping, path: str) -> Mapping:
    """The parameters of one layer of a network.

    Raises: UserError for a layer that is not there.

    >>> list(find_layer({"stage1": {"conv": {"kernel": 0, "bias": 0}}}, "stage1/conv"))
    ['kernel', 'bias']
    """
    layer = params
    for name in path.split("/"):
        if not isinstance(layer.get(name), Mapping):
            layers = [name for name, value in layer.items() if isinstance(value, Mapping)]
            raise unknown("layer", name, layers)
        layer = layer[name]
    return layer


def require_kernel(layer: Mapping, path: str) -> None:
    """Refuses parameters that are not those of a layer, but of several."""
    if "kernel" not in layer:
        raise UserError(f"{path} has no kernel, but {', '.join(layer)}: name the layer itself")


def _replace(params, names, layer):
    if not names:
        return layer
    return {**params, names[0]: _replace(params[names[0]], names[1:], layer)}
