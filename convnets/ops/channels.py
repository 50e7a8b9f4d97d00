"""Images times a factor and plus an offset for each channel, and the transpose of that: two sums
for each channel over the batch.

The two are primitives, each linear in its first operands and the transpose of the other. The sums
are a loop of our own on the CPU, where it can be called; elsewhere they have a fast form for most
inputs and an exact one for those far from zero, chosen while running. Differentiating that as it
stands would keep what both forms need.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from .collective import vary_alike
from .lowerings import run_compiled, takes_calls
from .onednn import loop_calls


def adjust_channels(factor, offset, x, mean, far, lowering):
    """`factor * x + offset`, or `factor * (x - mean) + offset` where `far`, in x's dtype.

    `factor`, `offset` and `mean` are `[C]` in float32, or wider, in which it is computed.
    """
    operands = vary_alike(factor, offset, x, mean, far)
    return adjust_channels_p.bind(*operands, lowering=lowering)


def weigh_channels(weights, x, mean, far, lowering):
    """The sums of `weights * x`, or of `weights * (x - mean)` where `far`, and of `weights`, over
    all axes but the last: `[C]`, `[C]`, in mean's dtype, in which they are computed."""
    operands = vary_alike(weights, x, mean, far)
    return weigh_channels_p.bind(*operands, lowering=lowering)


adjust_channels_p = Primitive("adjust_channels")
weigh_channels_p = Primitive("weigh_channels")
weigh_channels_p.multiple_results = True


def like(x, values):
    """Values of each channel with leading axes of one, to stand beside x."""
    return values.reshape((1,) * (x.ndim - values.ndim) + values.shape)


def _adjust(factor, offset, x, mean, far):
    centered = x.astype(mean.dtype) - like(x, _shift(mean, far))
    return (like(x, factor) * centered + like(x, offset)).astype(x.dtype)


def _weigh(weights, x, mean, far):
    axes = tuple(range(x.ndim - 1))
    weights, x = weights.astype(mean.dtype), x.astype(mean.dtype)
    products = lax.cond(
        far,
        lambda: jnp.sum(weights * (x - like(x, mean)), axes),
        lambda: jnp.sum(weights * x, axes),
    )
    return products, jnp.sum(weights, axes)


def _weigh_in_a_loop(weights, x, mean, far):
    return loop_calls.weigh_channels(weights, x, _shift(mean, far))


def _shift(mean, far):
    return jnp.where(far, mean, 0)


# Derivatives ------------------------------------------------------------------------------------


def _jvp_of_adjust(primals, tangents, *, lowering):
    factor, _, x, mean, far = primals
    y = adjust_channels(*primals, lowering)
    dfactor, doffset, dx, dmean, _ = tangents
    if type(dmean) is not ad.Zero:  # as a change of the offset
        doffset = ad.add_tangents(doffset, -factor * _shift(dmean, far))
    dy = ad.Zero(jax.typeof(y).to_tangent_aval())
    if type(dfactor) is not ad.Zero or type(doffset) is not ad.Zero:
        linear = map(ad.instantiate_zeros, (dfactor, doffset))
        dy = adjust_channels(*linear, x, mean, far, lowering)
    if type(dx) is not ad.Zero:
        dy = ad.add_tangents(dy, (dx.astype(mean.dtype) * like(x, factor)).astype(x.dtype))
    return y, dy


def _jvp_of_weigh(primals, tangents, *, lowering):
    weights, x, mean, far = primals
    sums = weigh_channels(*primals, lowering)
    dweights, dx, dmean, _ = tangents
    dproducts, dtotals = (ad.Zero(jax.typeof(s).to_tangent_aval()) for s in sums)
    if type(dweights) is not ad.Zero:
        dproducts, dtotals = weigh_channels(dweights, x, mean, far, lowering)
    if type(dx) is not ad.Zero:
        both = dx.astype(mean.dtype) * weights.astype(mean.dtype)
        dproducts = ad.add_tangents(dproducts, jnp.sum(both, tuple(range(x.ndim - 1))))
    if type(dmean) is not ad.Zero:
        dproducts = ad.add_tangents(dproducts, -_shift(dmean, far) * sums[1])
    return sums, [dproducts, dtotals]


def _transpose_of_adjust(cotangent, factor, offset, x, mean, far, *, lowering):
    sums = weigh_channels(ad.instantiate_zeros(cotangent), x, mean, far, lowering)
    return [*sums, None, None, None]


def _transpose_of_weigh(cotangents, weights, x, mean, far, *, lowering):
    cotangents = map(ad.instantiate_zeros, cotangents)
    return adjust_channels(*cotangents, x, mean, far, lowering), None, None, None


# Shapes, batching and lowering ------------------------------------------------------------------


def _result_of_adjust(factor, offset, x, mean, far, *, lowering):
    return x.update(weak_type=False)


def _results_of_weigh(weights, x, mean, far, *, lowering):
    return [mean.update(weak_type=False)] * 2


def _batch(function, args, axes, *, lowering):
    results = jax.vmap(function, in_axes=axes)(*args)
    return results, jax.tree.map(lambda _: 0, results)


def _lower_weigh_on_cpu(context, *operands, lowering):
    weights, x, mean, _ = context.avals_in
    known = x.dtype in (jnp.float32, jnp.bfloat16) and mean.dtype == jnp.float32
    loop = lowering == "onednn" and known and weights.dtype == x.dtype and takes_calls(context)
    function = _weigh_in_a_loop if loop else _weigh
    return mlir.lower_fun(function, multiple_results=True)(context, *operands)


def _define(primitive, function, result, jvp, transpose):
    run_compiled(primitive)
    primitive.def_abstract_eval(result)
    ad.primitive_jvps[primitive] = jvp
    ad.primitive_transposes[primitive] = transpose
    batching.primitive_batchers[primitive] = partial(_batch, function)
    lower = mlir.lower_fun(function, multiple_results=primitive.multiple_results)
    mlir.register_lowering(primitive, lambda context, *args, lowering: lower(context, *args))


_define(adjust_channels_p, _adjust, _result_of_adjust, _jvp_of_adjust, _transpose_of_adjust)
_define(weigh_channels_p, _weigh, _results_of_weigh, _jvp_of_weigh, _transpose_of_weigh)
mlir.register_lowering(weigh_channels_p, _lower_weigh_on_cpu, platform="cpu")
