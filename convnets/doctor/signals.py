"""What comes back to each layer of a network, and which of its units have stopped responding."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

SQUASHING = {"tanh": lambda y: 1 - y**2, "logistic": lambda y: 4 * y * (1 - y)}
SQUASHING["sigmoid"] = SQUASHING["logistic"]  # as it is jitted
FLAT = 0.01  # of the steepest slope


class Signal(NamedTuple):
    """What reaches a layer back from the logits.

    Attributes:
      path: of the layer, and `/` which of its calls, where there are several.
      dead: share of its units to which nothing comes back from any image.
      strength: root mean square of what comes back to an image's units.
    """

    path: str
    dead: float
    strength: float


def measure_signals(model, variables, images, *, seed: int = 0):
    """What reaches every layer back from a random mixture of the logits.

    Args:
      model, variables: run in evaluation.
      images: prepared, float `[B, H, W, C]`.
      seed: of the mixture.

    Returns: the logits `[B, K]`, and a `Signal` of every layer that calls no other, in the order of
    calls.

    >>> from convnets import create_model
    >>> model, images = create_model("linear"), jnp.ones((2, 4, 4, 1))
    >>> variables = model.init(jax.random.key(0), images, train=False)
    >>> [signal.path for signal in measure_signals(model, variables, images)[1]]
    ['head']
    """
    names = []

    def run(probes, images):
        names.clear()
        shapes, inner = {}, [False]

        def note(call, args, kwargs, context):
            if context.method_name != "__call__":
                return call(*args, **kwargs)
            inner[-1] = True
            inner.append(False)
            output = call(*args, **kwargs)
            if inner.pop() or not hasattr(output, "dtype") or output.ndim < 2:
                return output
            path = "/".join(context.module.path)
            name = path if path not in names else f"{path}/{names.count(path) + 1}"
            names.append(name)
            shapes[name] = jax.ShapeDtypeStruct(output.shape, output.dtype)
            return output if probes is None else output + probes[name]

        with nn.intercept_methods(note):
            logits = model.apply(variables, images, train=False)
        return (logits, shapes) if probes is None else logits

    _, shapes = jax.eval_shape(lambda x: _only_shapes(run(None, x)), images)

    @jax.jit
    def backward(images):
        def mixed(probes):
            logits = run(probes, images)
            weights = np.random.default_rng(seed).standard_normal(logits.shape)
            return jnp.sum(logits * weights), logits

        probes = {name: jnp.zeros(x.shape, x.dtype) for name, x in shapes.items()}
        gradients, logits = jax.grad(mixed, has_aux=True)(probes)
        found = {}
        for name, x in gradients.items():
            axes = tuple(range(x.ndim - 1))
            found[name] = (jnp.abs(x).max(axes) == 0).mean(), _root_mean_square(x)
        return logits, found

    logits, found = jax.device_get(backward(images))
    return logits, [Signal(name, *map(float, found[name])) for name in dict.fromkeys(names)]


def _only_shapes(pair):
    logits, shapes = pair
    return logits, {name: jnp.zeros(x.shape, x.dtype) for name, x in shapes.items()}


def _root_mean_square(x):
    largest = jnp.abs(x).max()  # apart, for the squares of what has faded are 0 in float32
    scale = jnp.where(largest > 0, largest, 1)
    return largest * jnp.sqrt(jnp.mean(jnp.square(x / scale)))


def find_saturated(model, variables, images) -> list[tuple[str, float]]:
    """Which units of sigmoids and tanhs are at their ends, whatever the image.

    A unit is saturated where the slope is below a hundredth of the steepest one for every image and
    place. Sigmoids and tanhs within other functions (swish, loops) are not looked at.

    Args:
      model, variables: run in evaluation.
      images: prepared, float `[B, H, W, C]`.

    Returns: of every sigmoid or tanh the path of its module, and the share of units saturated.

    Reference: Glorot, Bengio 2010, section 3.

    >>> from convnets import create_model
    >>> model, images = create_model("lenet1"), jnp.ones((2, 28, 28, 1))
    >>> variables = model.init(jax.random.key(0), images, train=False)
    >>> {share for _, share in find_saturated(model, variables, images)}
    {0.0}
    """
    closed = jax.make_jaxpr(lambda x: model.apply(variables, x, train=False))(images)
    equations = [equation for equation in closed.jaxpr.eqns if _squashing(equation)]
    outputs = [equation.outvars[0] for equation in equations]
    if not outputs:
        return []
    program = ClosedJaxpr(closed.jaxpr.replace(outvars=outputs), closed.consts)
    values = jax.device_get(jax.jit(jaxpr_as_fun(program))(images))
    found = []
    for equation, value in zip(equations, values):
        slopes = SQUASHING[_squashing(equation)](np.asarray(value, np.float32))
        steepest = slopes.max(tuple(range(value.ndim - 1))) if value.ndim > 1 else slopes
        path = str(equation.source_info.name_stack) or "the network itself"
        found.append((path, float((steepest < FLAT).mean())))
    return found


def _squashing(equation) -> str | None:
    """The name of a sigmoid or a tanh, bare or jitted."""
    names = equation.primitive.name, equation.params.get("name")
    return next((name for name in names if name in SQUASHING), None)
