"""Batch normalization, with one meaning on one device and on many; layer normalization."""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from flax.typing import Initializer
from jax import lax

from ..ops import normalization
from ..ops.convolution import require_floats


class BatchNorm(nn.Module):
    """Normalizes each channel by the statistics of the batch, or by running ones.

    With `train=True` the statistics are those of the whole global batch, or of groups of
    `group_size` consecutive examples of it, whichever devices hold them, and the running averages
    in `batch_stats` move towards them (towards the mean of the groups' means and variances). With
    `train=False` the running averages are used. Where the collection `batch_moments` is mutable,
    mean, variance and count of the values of the whole batch are sown there as `moments`.

    Attributes:
      momentum: decay of the old running average, as in Flax (PyTorch's momentum is one minus it).
      epsilon: added to the variance.
      group_size: examples in a group, None for the whole batch. It may exceed what one device
        holds, and must divide the global batch.

    Input and output: `[B, …, C]`, floating, and the output of the input's dtype.

    Precision: whatever the network computes in, running averages, scale and bias are float32, and
    so are the statistics and the normalization (float64 for float64 input), which is rounded to
    the input's dtype once, at the end. In half precision `x - mean` would lose what differs
    between examples where a channel is far from zero; and nothing is to be won by it, for a batch
    is read and written in half precision all the same, and memory is what limits the layer.

    Raises: TypeError on integer input; ValueError where groups do not divide the batch.

    Reference: Ioffe and Szegedy 2015, algorithm 1; groups as the workers of Goyal et al. 2017,
    section 3. Differs: running variances are biased, as in Flax; PyTorch's are unbiased.

    >>> import jax
    >>> x = jax.random.normal(jax.random.key(0), (8, 4, 4, 3))
    >>> variables = BatchNorm().init(jax.random.key(0), x, train=False)
    >>> y, updates = BatchNorm().apply(variables, x, train=True, mutable=["batch_stats"])
    >>> bool(abs(y.mean()) < 1e-6)
    True
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    group_size: int | None = None
    scale_init: Initializer = nn.initializers.ones
    bias_init: Initializer = nn.initializers.zeros

    @nn.compact
    def __call__(self, x, *, train: bool):
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise TypeError(f"BatchNorm takes floats, not {x.dtype}")
        channels = (x.shape[-1],)
        scale = self.param("scale", self.scale_init, channels, jnp.float32)
        bias = self.param("bias", self.bias_init, channels, jnp.float32)
        mean = self.variable("batch_stats", "mean", jnp.zeros, channels, jnp.float32)
        variance = self.variable("batch_stats", "var", jnp.ones, channels, jnp.float32)
        if not train:
            moments = normalization.Moments(mean.value, variance.value)
            return normalization.normalize(x, moments, scale, bias, self.epsilon)

        if self.group_size is None:
            moments = followed = normalization.batch_moments(x)
        else:
            moments, followed = normalization.group_moments(x, self.group_size)
        if not self.is_initializing():
            mean.value = self._follow(mean.value, followed.mean)
            variance.value = self._follow(variance.value, followed.variance)
            if self.is_mutable_collection("batch_moments"):
                self.sow("batch_moments", "moments", normalization.counted_moments(x))
        return normalization.normalize(x, moments, scale, bias, self.epsilon)

    def _follow(self, old, new):
        return (self.momentum * old + (1 - self.momentum) * new).astype(old.dtype)


def switch_batch_norm(*, train: bool):
    """A context in which every `BatchNorm` computes with this `train`, whatever the model is called
    with; dropout and all else hear the model's own.

    With `train=False` in training, batch norm is frozen: it normalizes by its running statistics
    and leaves them; scale and bias stay parameters as others. It is what is traced within the
    context that counts, so a function that is compiled opens it inside.

    >>> import jax
    >>> x, layer = jnp.array([[1.0], [3.0]]), BatchNorm(epsilon=0.0)
    >>> variables = layer.init(jax.random.key(0), x, train=False)
    >>> with switch_batch_norm(train=False):
    ...     y, updates = layer.apply(variables, x, train=True, mutable=["batch_stats"])
    >>> y.tolist(), updates["batch_stats"]["mean"].tolist()
    ([[1.0], [3.0]], [0.0])
    """

    def switch(call, args, kwargs, context):
        if isinstance(context.module, BatchNorm) and context.method_name == "__call__":
            kwargs = kwargs | {"train": train}
        return call(*args, **kwargs)

    return nn.intercept_methods(switch)


def group_batch_norm(norm, group_size: int):
    """A maker of batch norms over groups of so many examples, whatever it made before.

    Raises: TypeError where `norm` makes no `BatchNorm`.

    >>> group_batch_norm(partial(BatchNorm, epsilon=1e-3), 32).keywords
    {'epsilon': 0.001, 'group_size': 32}
    """
    made = norm
    while isinstance(made, partial):
        made = made.func
    if not (isinstance(made, type) and issubclass(made, BatchNorm)):
        raise TypeError(f"{made!r} is no batch norm")
    return partial(norm, group_size=group_size)


def with_epsilon(norm, epsilon: float):
    """A maker of normalizations with this epsilon, unless it binds one itself.

    >>> with_epsilon(partial(BatchNorm, group_size=8), 1e-3).keywords
    {'group_size': 8, 'epsilon': 0.001}
    >>> with_epsilon(partial(BatchNorm, epsilon=0.1), 1e-3).keywords
    {'epsilon': 0.1}
    """
    own = norm.keywords if isinstance(norm, partial) else {}
    return partial(norm, **{"epsilon": epsilon, **own})


class LayerNorm(nn.Module):
    """Normalizes the channels of every pixel by their own mean and variance, then scales and shifts
    each channel.

    Attribute: `epsilon`, added to the variance (biased, as everywhere here).

    Input and output: `[…, C]`, floating; scale and bias are float32, and so is the computation
    (float64 for float64 input).

    Raises: TypeError on integer input.

    Reference: Ba, Kiros, Hinton 2016, "Layer normalization", section 3, over the channels of one
    pixel as in Liu et al. 2022 (ConvNeXt).

    >>> import jax
    >>> y, _ = LayerNorm().init_with_output(jax.random.key(0), jnp.array([[1.0, 3.0]]))
    >>> y.round(3).tolist()
    [[-1.0, 1.0]]
    """

    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, x):
        require_floats(x, "LayerNorm")
        channels = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, channels, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, channels, jnp.float32)
        y = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        y = y - y.mean(-1, keepdims=True)
        variance = (y * y).mean(-1, keepdims=True)
        scale, bias = (v.reshape((1,) * (x.ndim - 1) + channels) for v in (scale, bias))
        return (y * (lax.rsqrt(variance + self.epsilon) * scale) + bias).astype(x.dtype)
