"""Statistics of a batch, over the whole of it or over groups, however it is spread over devices."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from . import collective
from .channels import adjust_channels, like, weigh_channels
from .lowerings import current_lowering

FAR = 16.0  # squared mean over variance: beyond it sums of squares lose more than five bits


class Moments(NamedTuple):
    """Mean and biased variance of each channel: `[C]`, or `[B, C]` with one set an example."""

    mean: jax.Array
    variance: jax.Array


def batch_moments(x: jax.Array) -> Moments:
    """Mean and variance of each channel over the whole global batch, `[C]`.

    In float32, or float64 for float64 inputs; by deviations from the mean where some channel is far
    from zero, so that its variance is exact there too. Every device holds as many examples, so the
    mean of the devices' means is the mean.
    """
    mean, variance = _local_moments(x)
    if collective.axis_size() is None:
        return Moments(mean, variance)
    whole = collective.mean_over_data(mean)
    return Moments(whole, collective.mean_over_data(variance + jnp.square(mean - whole)))


def counted_moments(x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Mean and variance of each channel over the whole global batch, `[C]`, and of how many values
    they are, float32 `[]`: what statistics of several batches are put together from."""
    count = math.prod(x.shape[:-1]) * (collective.axis_size() or 1)
    return *batch_moments(x), jnp.float32(count)


def group_moments(x: jax.Array, group_size: int) -> tuple[Moments, Moments]:
    """Mean and variance of each channel over groups of consecutive examples of the global batch.

    Group `g` holds the examples `g * group_size` to `(g + 1) * group_size - 1`, whichever devices
    hold them: each device adds its examples to their groups' sums, and every example reads its
    group's.

    Returns: the moments of each local example's group, `[B, C]`, and the mean over the groups of
    their moments, `[C]`, which is what running statistics follow.

    Raises: ValueError when the global batch is no multiple of `group_size`.
    """
    local, channels = x.shape[0], x.shape[-1]
    batch_size = local * (collective.axis_size() or 1)
    if group_size < 1 or batch_size % group_size:
        raise ValueError(
            f"a batch of {batch_size} examples does not divide into groups of {group_size}"
        )
    groups = batch_size // group_size
    x = _widen(x).reshape(local, -1, channels)
    group = collective.global_indices(local) // group_size
    member = jax.nn.one_hot(group, groups, dtype=x.dtype)  # [B, G]

    def mean_of_groups(values):  # [B, C] -> [G, C]
        sums = jnp.matmul(member.T, values, precision=lax.Precision.HIGHEST)
        return collective.sum_over_data(sums) / group_size

    def of_each_example(values):  # [G, C] -> [B, C]
        return jnp.matmul(member, values, precision=lax.Precision.HIGHEST)

    mean = mean_of_groups(jnp.mean(x, 1))
    deviations = x - of_each_example(mean)[:, None, :]
    variance = mean_of_groups(jnp.mean(jnp.square(deviations), 1))
    each = Moments(of_each_example(mean), of_each_example(variance))
    return each, Moments(jnp.mean(mean, 0), jnp.mean(variance, 0))


def normalize(x, moments: Moments, scale, bias, epsilon: float):
    """`scale * (x - mean) / sqrt(variance + epsilon) + bias`, returned in x's dtype.

    Computed in float32, or float64 for float64 inputs. Moments are `[C]`, or `[B, C]` for one set
    an example; `scale` and `bias` are `[C]`.
    """
    mean, variance, scale, bias = (values.astype(_wide(x)) for values in (*moments, scale, bias))
    factor = lax.rsqrt(variance + epsilon)
    if mean.ndim == 1:
        return _affine(x, mean, scale * factor, bias, _is_far(mean, variance + epsilon))
    shape = (x.shape[0], *(1,) * (x.ndim - 2), x.shape[-1])
    factor = (factor * like(factor, scale)).reshape(shape)
    y = (_widen(x) - mean.reshape(shape)) * factor + like(x, bias)
    return y.astype(x.dtype)


@jax.custom_jvp
def _local_moments(x):
    """Mean and variance by the sums of values and squares, which are read at memory speed; where
    they would cancel, by the squares of deviations."""
    axes = tuple(range(x.ndim - 1))
    count = math.prod(x.shape[:-1])
    zeros = jnp.zeros(x.shape[-1], _wide(x))
    squares, sums = weigh_channels(x, x, zeros, False, current_lowering())
    mean = sums / count
    variance = squares / count - jnp.square(mean)

    def from_deviations():
        return jnp.mean(jnp.square(_center(x, mean)), axes)

    return mean, lax.cond(_is_far(mean, variance), from_deviations, lambda: variance)


@_local_moments.defjvp
def _(primals, tangents):
    (x,), (dx,) = primals, tangents
    mean, variance = _local_moments(x)
    axes = tuple(range(x.ndim - 1))
    dx = dx.astype(mean.dtype)
    dvariance = 2 * jnp.mean(_center(x, mean) * dx, axes)
    return (mean, variance), (jnp.mean(dx, axes), dvariance)


@jax.custom_jvp
def _affine(x, mean, factor, bias, far):
    """`factor * (x - mean) + bias` in x's dtype, whose gradient reads `x` and the cotangent alone:
    the sums over a batch are of their product and of the cotangent, and nothing of a batch's size
    is kept."""
    return (_center(x, mean) * like(x, factor) + like(x, bias)).astype(x.dtype)


@_affine.defjvp
def _(primals, tangents):
    x, mean, factor, _, far = primals
    dx, dmean, dfactor, dbias, _ = tangents
    shift = dbias - factor * dmean - jnp.where(far, 0.0, mean) * dfactor
    scaled = (dx.astype(mean.dtype) * like(x, factor)).astype(x.dtype)
    return _affine(*primals), scaled + adjust_channels(
        dfactor, shift, x, mean, far, current_lowering()
    )


def _is_far(mean, variance):
    """Whether some channel is so far from zero that sums of squares would lose its variance."""
    return jnp.any(~(jnp.square(mean) <= FAR * variance))  # so if squares overflow, too


def _wide(x):
    return jnp.promote_types(x.dtype, jnp.float32)


def _widen(x):
    """Half precision as float32; the rest as it is."""
    return x.astype(_wide(x))


def _center(x, mean):
    return _widen(x) - like(x, mean)
