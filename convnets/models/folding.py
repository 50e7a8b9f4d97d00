"""Batch norm at inference: no layer of its own, but another kernel and bias before it."""

from collections import defaultdict

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import lax
from jax.extend.core import Jaxpr, Var

from ..errors import UserError
from ..layers import BatchNorm, Conv, Dense
from .tracing import path_of, programs_of, trace

ELSEWHERE = None  # in the place of a module's path, where it is not known


def fold_batch_norm(model: nn.Module, variables, image_shape) -> tuple[nn.Module, dict]:
    """The same network for inference, its batch norms folded into the layers before them.

    At inference a batch norm is a scale and a shift of each channel. Right behind a convolution or
    a dense layer they become part of its kernel and bias: the kernel `k` becomes `f k` and the bias
    `b` becomes `f (b - mean) + bias`, with `f = scale / sqrt(variance + epsilon)`, in float32.

    Which norm follows which layer is read off the program of the model. A norm stays as it is where
    anything else uses its input, or where that comes from no `Conv` or `Dense`.

    Args:
      model: a `flax.linen.Module` called `(images, *, train)`; a classifier or a backbone.
      variables: `{"params": …, "batch_stats": …}`, of `TrainState.variables()` for one.
      image_shape: `(H, W, C)`, to trace the model with; the result takes other sizes too.

    Returns: the model, which takes `train=False` alone, and its variables, without `batch_stats`
    where no norm is left. A model without batch norm comes back as it is.

    Reference: Jacob et al. 2018, "Quantization and training of neural networks for efficient
    integer-arithmetic-only inference", section 3.2.

    >>> from convnets.models import create_model
    >>> model, images = create_model("cifar_resnet8"), jnp.ones((2, 32, 32, 3))
    >>> variables = model.init(jax.random.key(0), images, train=False)
    >>> folded, fewer = fold_batch_norm(model, variables, (32, 32, 3))
    >>> list(fewer), list(fewer["params"]["backbone"]["conv1"])
    (['params'], ['kernel', 'bias'])
    >>> difference = folded.apply(fewer, images, train=False) - model.apply(
    ...     variables, images, train=False)
    >>> bool(abs(difference).max() < 1e-5)
    True
    """
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    calls, program = trace(
        lambda variables, images: model.apply(variables, images, train=False), variables, images
    )
    modules = {path: module for path, (module, _) in calls.items()}
    params = flatten_dict(variables["params"], sep="/")
    statistics = flatten_dict(variables.get("batch_stats", {}), sep="/")
    pairs = _foldable(modules, _flows(program))
    pairs = tuple(pair for pair in pairs if params[f"{pair[1]}/scale"].ndim == 1)  # not a stack
    if not pairs:
        return model, variables
    for layer, norm in pairs:
        mean, variance = (statistics.pop(f"{norm}/{name}") for name in ("mean", "var"))
        scale, bias = (params.pop(f"{norm}/{name}") for name in ("scale", "bias"))
        factor = scale * lax.rsqrt(variance + modules[norm].epsilon)
        kernel = params[f"{layer}/kernel"]
        params[f"{layer}/kernel"] = kernel * factor.reshape((1,) * (kernel.ndim - 1) + (-1,))
        params[f"{layer}/bias"] = factor * (params.get(f"{layer}/bias", 0.0) - mean) + bias
    variables = {**variables, "params": unflatten_dict(params, sep="/")}
    variables["batch_stats"] = unflatten_dict(statistics, sep="/")
    if not statistics:
        del variables["batch_stats"]
    return Folded(model, pairs), variables


class Folded(nn.Module):
    """A model without the batch norms that are folded into the layers before them.

    Attributes:
      model: as it was trained.
      pairs: the paths of each such layer, which now has a bias, and of its norm, now the identity.

    Its parameters have the paths that they have in `model`.

    Raises: UserError for `train=True`: the statistics of the batch are not computed any more.
    """

    model: nn.Module
    pairs: tuple[tuple[str, str], ...]

    def __call__(self, images, *, train: bool):
        return self._infer("__call__", images, train)

    def endpoints(self, images, *, train: bool) -> dict:
        return self._infer("endpoints", images, train)

    def _infer(self, method, images, train):
        if train:
            raise UserError("a folded model is for inference; train the one that it was made of")
        layers, norms = map(set, zip(*self.pairs))
        above = len(self.path)

        def replace(next_function, args, kwargs, context):
            layer, path = context.module, "/".join(context.module.path[above:])
            if context.method_name == "__call__" and path in norms:
                return args[0]
            if context.method_name == "__call__" and path in layers and not layer.use_bias:
                return layer.clone(parent=layer.scope, use_bias=True)(*args, **kwargs)
            return next_function(*args, **kwargs)

        model = self.model.copy(parent=self.scope)  # in this scope itself, not in one below it
        with nn.intercept_methods(replace):
            return getattr(model, method)(images, train=False)


def _foldable(modules, flows):
    """The pairs of paths (layer, norm) of norms that alone use what one layer returns."""
    sources = defaultdict(set)
    for source, receivers in flows.items():
        for receiver in receivers:
            sources[receiver].add(source)
    return tuple(
        (layer, norm)
        for layer, module in modules.items()
        if isinstance(module, Conv | Dense) and len(flows[layer]) == 1
        for norm in flows[layer]
        if isinstance(modules.get(norm), BatchNorm) and sources[norm] == {layer}
    )


def _flows(program: Jaxpr):
    """Between which modules arrays go: the path of one -> the paths of those that use its own."""
    flows = defaultdict(set)

    def follow(program, outside, origins):
        def use(variables, path):
            for x in variables:
                if isinstance(x, Var) and origins.get(x, path) != path:
                    flows[origins[x]].add(path)

        for equation in program.eqns:
            here = path_of(equation, outside)
            use(equation.invars, here)
            for inner in programs_of(equation):
                given = dict.fromkeys(inner.invars, ELSEWHERE)
                if len(inner.invars) == len(equation.invars):
                    known = zip(inner.invars, equation.invars)
                    given = {x: origins[y] for x, y in known if isinstance(y, Var) and y in origins}
                follow(inner, here, given)
            origins |= dict.fromkeys(equation.outvars, here)
        use(program.outvars, outside)

    follow(program, "", {})
    return flows
