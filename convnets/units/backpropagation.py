"""Back-propagation by hand: modules that each know their own derivative, and nothing else.

A module has what it was given, what it made of it and its own weights; it receives the gradient
with respect to its output and returns that with respect to its input and its weights: all needed
information is local. `jax.grad` does the same for any function; here every line can be read, and
the tests hold the two against one another.

Reference: Rumelhart, Hinton, Williams 1986, "Learning representations by back-propagating errors";
the table of modules is that of Collobert 2015, "Examples of modules". With x the input, y the
output, z the target and dy the gradient with respect to y:

    module           forward              gradient with respect to x   to the weights
    linear           y = W x              W^T dy                       dy x^T
    tanh             y = tanh(x)          dy (1 - y^2)
    sigmoid          y = 1/(1 + e^-x)     dy (1 - y) y
    ReLU             y = max(0, x)        dy 1[x > 0]
    perceptron loss  y = max(0, -z x)     -z 1[z x <= 0] dy
    squared error    y = 1/2 (x - z)^2    (x - z) dy
    likelihood       y = -log p(z | x)    (p(. | x) - e_z) dy

Differs: that table prints the perceptron loss's gradient as -1[z x <= 0]; without the factor z the
examples of one of the two classes would be unlearned. It leaves out dy in the losses, which is 1
where they are last. Its ReLU has the derivative 1 at 0, as good a subgradient as the 0 of this
library. The slide before prints y - f as the derivative of 1/2 (y - f)^2 by f; it is f - y, as in
the table.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Module(NamedTuple):
    """A function and its derivative, for one example.

    Attributes:
      forward: `(x, weights) -> y`.
      backward: `(dy, x, y, weights) ->` the gradient with respect to x.
      gradient: the same to that with respect to the weights; None for a module without any.
    """

    forward: Callable
    backward: Callable
    gradient: Callable | None = None


def elementwise(function, derivative) -> Module:
    """The module of a function of single numbers; `derivative(x, y)` may use what came out."""
    return Module(lambda x, weights: function(x), lambda dy, x, y, weights: dy * derivative(x, y))


LINEAR = Module(
    forward=lambda x, weights: weights @ x,
    backward=lambda dy, x, y, weights: weights.T @ dy,
    gradient=lambda dy, x, y, weights: jnp.outer(dy, x),
)
TANH = elementwise(jnp.tanh, lambda x, y: 1 - y**2)
SIGMOID = elementwise(lambda x: 1 / (1 + jnp.exp(-x)), lambda x, y: (1 - y) * y)
RELU = elementwise(lambda x: jnp.maximum(0, x), lambda x, y: (x > 0).astype(x.dtype))
SIN = elementwise(jnp.sin, lambda x, y: jnp.cos(x))
COS = elementwise(jnp.cos, lambda x, y: -jnp.sin(x))
EXP = elementwise(jnp.exp, lambda x, y: y)
LOG = elementwise(jnp.log, lambda x, y: 1 / x)
CUBE = elementwise(lambda x: x**3, lambda x, y: 3 * x**2)


def perceptron_loss(z) -> Module:
    """`sum max(0, -z x)` for targets -1 or 1 of the shape of `x`; at 0 it still counts as wrong."""
    return Module(
        forward=lambda x, weights: jnp.maximum(0, -z * x).sum(),
        backward=lambda dy, x, y, weights: -z * (z * x <= 0) * dy,
    )


def squared_error(z) -> Module:
    """`1/2 sum (x - z)^2` for targets of the shape of `x`."""
    return Module(
        forward=lambda x, weights: 0.5 * ((x - z) ** 2).sum(),
        backward=lambda dy, x, y, weights: (x - z) * dy,
    )


def negative_log_likelihood(z) -> Module:
    """`log sum_i exp(x_i) - x_z` for a class `z` and scores `x [K]`, which may be large.

    Here y, the loss, is enough to find `log p = x - (y + x_z)` again.
    """
    return Module(
        forward=lambda x, weights: x.max() + jnp.log(jnp.exp(x - x.max()).sum()) - x[z],
        backward=lambda dy, x, y, weights: (
            (jnp.exp(x - (y + x[z])) - jax.nn.one_hot(z, x.size, dtype=x.dtype)) * dy
        ),
    )


def forward_pass(modules: Sequence[Module], weights: Sequence, x) -> list:
    """F-PROP: the input and what each module makes of what the one before it made.

    Args:
      modules: in the order in which they are applied.
      weights: one entry a module, None for one without.
      x: one example.

    Returns: `len(modules) + 1` arrays; the last is the output.
    """
    values = [x]
    for module, own in zip(modules, weights, strict=True):
        values.append(module.forward(values[-1], own))
    return values


def backward_pass(modules: Sequence[Module], weights: Sequence, values: list, dy=1.0):
    """B-PROP: from the last module to the first, each hands on the gradient to the one before it.

    Args:
      modules: as given to `forward_pass`.
      weights: as given to `forward_pass`.
      values: as `forward_pass` returned them.
      dy: the gradient with respect to the last value; 1 for a loss.

    Returns: `(dx, gradients)`: the gradient with respect to the input, and one entry a module,
      that with respect to its weights, None for a module without.

    >>> from convnets.units import backpropagation as hand
    >>> modules = [hand.SIN, hand.CUBE, hand.EXP, hand.COS, hand.LOG]  # log(cos(exp(sin(x)^3)))
    >>> values = hand.forward_pass(modules, [None] * 5, jnp.array(0.5))
    >>> dx, _ = hand.backward_pass(modules, [None] * 5, values)
    >>> round(float(values[-1]), 4), round(float(dx), 4)
    (-0.8236, -1.3834)
    """
    gradients = []
    stages = zip(modules, weights, values[:-1], values[1:], strict=True)
    for module, own, x, y in reversed(list(stages)):
        gradients.append(module.gradient and module.gradient(dy, x, y, own))
        dy = module.backward(dy, x, y, own)
    return dy, gradients[::-1]
