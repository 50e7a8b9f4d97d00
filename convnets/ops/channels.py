"""Images times a factor for each channel, and the transpose of that, summed over the batch.

The two are primitives, because the sums have a fast form for most inputs and an exact one for
those far from zero. The choice is made while running; differentiating it as it stands would keep
what both forms need.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from .collective import vary_alike


def scale_channels(factor, x, mean, far):
    """`factor * x`, or `factor * (x - mean)` where `far`: `[C]`, `[…, C]`, `[C]` to `[…, C]`."""
    return scale_channels_p.bind(*vary_alike(factor, x, mean, far))


def weigh_channels(weights, x, mean, far):
    """The sum of `weights * x`, or of `weights * (x - mean)`, over all axes but the last: `[C]`."""
    return weigh_channels_p.bind(*vary_alike(weights, x, mean, far))


scale_channels_p = Primitive("scale_channels")
weigh_channels_p = Primitive("weigh_channels")


def _scale(factor, x, mean, far):
    return like(x, factor) * (x - like(x, _shift(mean, far)))


def _weigh(weights, x, mean, far):
    axes = tuple(range(x.ndim - 1))
    return lax.cond(
        far,
        lambda: jnp.sum(weights * (x - like(x, mean)), axes),
        lambda: jnp.sum(weights * x, axes),
    )


def _jvp_of_scale(primals, tangents):
    factor, x, mean, far = primals
    y = scale_channels(*primals)
    parts = (
        lambda dfactor: scale_channels(dfactor, x, mean, far),
        lambda dx: dx * like(x, factor),
        lambda dmean: jnp.broadcast_to(like(x, -factor * _shift(dmean, far)), x.shape),
    )
    return y, _add(y, parts, tangents)


def _jvp_of_weigh(primals, tangents):
    weights, x, mean, far = primals
    axes = tuple(range(x.ndim - 1))
    y = weigh_channels(*primals)
    parts = (
        lambda dweights: weigh_channels(dweights, x, mean, far),
        lambda dx: jnp.sum(weights * dx, axes),
        lambda dmean: -_shift(dmean, far) * jnp.sum(weights, axes),
    )
    return y, _add(y, parts, tangents)


def _add(y, parts, tangents):
    total = ad.Zero(jax.typeof(y).to_tangent_aval())
    for part, tangent in zip(parts, tangents):
        if type(tangent) is not ad.Zero:
            total = ad.add_tangents(total, part(tangent))
    return total


def _transpose_of_scale(cotangent, factor, x, mean, far):
    return weigh_channels(ad.instantiate_zeros(cotangent), x, mean, far), None, None, None


def _transpose_of_weigh(cotangent, weights, x, mean, far):
    return scale_channels(ad.instantiate_zeros(cotangent), x, mean, far), None, None, None


def _shift(mean, far):
    return jnp.where(far, mean, 0)


def like(x, values):
    """Values of each channel with leading axes of one, to stand beside x."""
    return values.reshape((1,) * (x.ndim - values.ndim) + values.shape)


def _batch(function, args, axes):
    return jax.vmap(function, in_axes=axes)(*args), 0


def _define(primitive, function, result, jvp, transpose):
    primitive.def_impl(jax.jit(function))
    primitive.def_abstract_eval(result)
    ad.primitive_jvps[primitive] = jvp
    ad.primitive_transposes[primitive] = transpose
    batching.primitive_batchers[primitive] = partial(_batch, function)
    mlir.register_lowering(primitive, mlir.lower_fun(function, multiple_results=False))


_define(scale_channels_p, _scale, lambda _, x, *others: x, _jvp_of_scale, _transpose_of_scale)
_define(weigh_channels_p, _weigh, lambda _, x, mean, far: mean, _jvp_of_weigh, _transpose_of_weigh)
