"""The last layers of trained models, made anew."""

import jax

from ..errors import UserError
from ..layers import lecun_normal, zeros


def reset_head(variables, num_classes: int, key=None):
    """The same variables, but a fresh last dense layer for another number of classes.

    What is replaced is `head`, and the `head` inside `auxiliary1`, `auxiliary2`, … where there are
    such heads; all else is the same arrays. Kernels start as those of `Dense` do, at
    `lecun_normal`, biases at zero. The model that takes them is made with the same `num_classes`.

    Args:
      variables: of a classifier, `{"params": …, "batch_stats": …}`, or its parameters alone, of
        which parameters alone come back.
      num_classes: outputs of the fresh layers, at least 1.
      key: for the kernels; None for `jax.random.key(0)`.

    Raises: UserError where there is no head, or less than one class.

    >>> from convnets.models import create_model
    >>> images = jax.numpy.ones((1, 28, 28, 1))
    >>> variables = create_model("lenet5").init(jax.random.key(0), images, train=False)
    >>> variables = reset_head(variables, 26)
    >>> create_model("lenet5", num_classes=26).apply(variables, images, train=False).shape
    (1, 26)
    """
    if num_classes < 1:
        raise UserError(f"a head has at least 1 class, came num_classes {num_classes}")
    if "params" in variables:
        return {**variables, "params": reset_head(variables["params"], num_classes, key)}
    if "head" not in variables:
        raise UserError(f"there is no head among {sorted(variables)}; only a classifier has one")
    key = jax.random.key(0) if key is None else key
    params = {**variables, "head": _fresh(variables["head"], num_classes, key)}
    for number, name in enumerate(sorted(n for n in params if n.startswith("auxiliary")), 1):
        if "head" in params[name]:
            fresh = _fresh(params[name]["head"], num_classes, jax.random.fold_in(key, number))
            params[name] = {**params[name], "head": fresh}
    return params


def _fresh(layer, num_classes, key):
    """A layer's parameters anew, with another number of outputs."""
    kernel = layer["kernel"]
    fresh = {"kernel": lecun_normal()(key, (*kernel.shape[:-1], num_classes), kernel.dtype)}
    if "bias" in layer:
        fresh["bias"] = zeros(key, (num_classes,), layer["bias"].dtype)
    return fresh
