"""Muon: directions whose matrices are made orthogonal."""

import math

import jax
import optax
from optax import contrib

from .selection import is_of_head, kernels, paths

ADAM_SHARE = 0.1  # of the learning rate, for what is no matrix


def orthogonalize_momentum() -> optax.GradientTransformation:
    """Muon's direction: the momentum of each kernel with its singular values brought near 1.

    Kernels `[C, features]` and `[kernel H, kernel W, C, features]`, the latter as matrices of
    `[kernel H * kernel W * C, features]`, those of grouped convolutions too: their gradients are
    averaged with decay 0.95, looking ahead (Nesterov), divided by their Frobenius norm, brought
    near U Vᵀ by five steps X ← 3.4445 X − 4.775 X Xᵀ X + 2.0315 (X Xᵀ)² X, which leave singular
    values between about 0.7 and 1.2 of those that are not tiny, and scaled by
    √max(1, features / inputs).

    All else, that is biases, scales, kernels of another rank and the last dense layer, `head`,
    takes the direction of Adam, times 0.1: with a learning rate of 0.02 that is Adam at 0.002. The
    weight decay that `create_optimizer` adds to these directions is not scaled with them: that of
    the head's kernel has the whole rate, as that of all others.

    Reference: Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks".
    Differs: the averages are without the bias of their start, in float32, as in Optax.

    >>> params = {"kernel": jax.numpy.eye(3)}
    >>> direction = orthogonalize_momentum()
    >>> updates, _ = direction.update({"kernel": 5 * jax.numpy.eye(3)}, direction.init(params))
    >>> bool(0.6 < updates["kernel"][0, 0] < 1.3)
    True
    """
    parts = {
        "muon": optax.chain(
            contrib.scale_by_muon(weight_dimension_numbers=_as_matrices),
            optax.stateless(lambda updates, _: jax.tree.map(_scale_for_width, updates)),
        ),
        "adam": optax.chain(optax.scale_by_adam(), optax.scale(ADAM_SHARE)),
    }
    return optax.partition(parts, _labels)


def _as_matrices(params):
    def axes(x):
        return contrib.MuonDimensionNumbers(tuple(range(x.ndim - 1)), x.ndim - 1)

    return jax.tree.map(axes, params)


def _scale_for_width(x):
    inputs = math.prod(x.shape[:-1])
    return x * math.sqrt(max(1.0, x.shape[-1] / inputs))


def _labels(params):
    def label(x, path, is_kernel):
        return "muon" if is_kernel and x.ndim in (2, 4) and not is_of_head(path) else "adam"

    return jax.tree.map(label, params, paths(params), kernels(params))
