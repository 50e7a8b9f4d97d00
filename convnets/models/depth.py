"""The layers of a model by depth, and learning rates that fall towards its first."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from ..errors import UserError
from .tracing import trace

OPENED = ("backbone", "hidden")  # modules whose layers are the modules below them


def list_layers(model: nn.Module, image_shape) -> list[list[str]]:
    """The layers of a model in the order of computation, each as the paths of its modules.

    A layer is a module with a kernel right below the model, or right below its `backbone` or
    `hidden`: a block, or a single convolution or dense layer. Modules without a kernel, as norms,
    belong to the layer before them. The last layer is the head; auxiliary heads belong to it.

    Args:
      model: a `flax.linen.Module`, called `(images, *, train)`.
      image_shape: `(H, W, C)`.

    >>> from convnets.models import create_model
    >>> list_layers(create_model("cifar_resnet8"), (32, 32, 3))[:2]
    [['backbone/conv1', 'backbone/bn1'], ['backbone/stage1_block1']]
    """
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    shapes = {}

    def run(key, images):
        variables = model.init(key, images, train=False)
        shapes.update(variables.get("params", {}))
        return variables

    calls, _ = trace(run, jax.random.key(0), images)
    order = {path: number for number, path in enumerate(calls)}
    modules = sorted(_modules(shapes), key=partial(_place, order))
    layers, of_head = [], []
    for path, has_kernel in modules:
        if path.startswith("auxiliary"):
            of_head.append(path)
        elif has_kernel or not layers:
            layers.append([path])
        else:
            layers[-1].append(path)
    if layers:
        layers[-1].extend(of_head)
    return layers


def decay_by_depth(model: nn.Module, image_shape, decay: float) -> dict[str, float]:
    """Factors of the learning rate that fall with the distance from the head.

    Layer k of n, counted from 1, has `decay ** (n - k)`.

    Args:
      model, image_shape: as in `list_layers`, which says what a layer is.
      decay: in (0, 1].

    Returns: factors by patterns of paths, for `create_optimizer(..., rate_scales=…)`.

    Raises: UserError for a decay out of its range.

    Reference: Clark et al. 2020, "ELECTRA", appendix A; Bao et al. 2022, "BEiT", appendix;
    Howard and Ruder 2018, section 3.2.

    >>> from convnets.models import create_model
    >>> decay_by_depth(create_model("mlp"), (28, 28, 1), 0.5)
    {'backbone/dense1/*': 0.5, 'head/*': 1.0}
    """
    if not 0 < decay <= 1:
        raise UserError(f"the decay from layer to layer lies in (0, 1], not {decay}")
    layers = list_layers(model, image_shape)
    return {
        f"{path}/*": decay ** (len(layers) - number)
        for number, layer in enumerate(layers, 1)
        for path in layer
    }


def _modules(params):
    """The paths of the modules that layers are made of, and whether there is a kernel in each."""
    for name, tree in params.items():
        if not isinstance(tree, dict):  # a parameter of the model's own
            continue
        below = [(inner, part) for inner, part in tree.items() if isinstance(part, dict)]
        if name in OPENED and len(below) == len(tree):
            yield from ((f"{name}/{inner}", _has_kernel(part)) for inner, part in below)
        else:
            yield name, _has_kernel(tree)


def _has_kernel(tree):
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return any(x.ndim > 1 for _, x in leaves)


def _place(order, module):
    """Where in the order of calls a module stands; one that is never called, after the others."""
    return order.get(module[0], len(order))
