"""Dropout of values, of weights and of whole branches, with one key an example."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from ..ops import collective
from .initializers import Initializer, lecun_normal, zeros


class Dropout(nn.Module):
    """Sets each value to zero with probability `rate` and scales the rest by `1 / (1 - rate)`.

    Every example draws its mask with its own key: the collection `dropout`'s, folded with the
    example's position in the whole batch, so that the mask does not depend on the devices.

    Input and output: `[B, …]`, floating. With `train=False` it is the identity and needs no key.

    Raises: ValueError for a rate outside [0, 1); TypeError on integer input.

    Reference: Hinton et al. 2012; Srivastava et al. 2014, section 4. Differs: the scaling is done
    in training (inverted dropout), not at test time.

    >>> Dropout(0.5).apply({}, jnp.ones((2, 3)), train=False).tolist()
    [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    """

    rate: float

    @nn.compact
    def __call__(self, x, *, train: bool):
        if not 0 <= self.rate < 1:
            raise ValueError(f"a dropout rate lies in [0, 1), not {self.rate}")
        _require_floats(self, x)
        if not train or self.rate == 0:
            return x
        return _drop(self, x, x.shape[1:])


class DropConnect(nn.Module):
    """A dense layer of which each weight, not each value, is zero with probability `rate`.

    Every example draws a mask over all weights and biases with its own key, as in `Dropout`; what
    is kept is scaled by `1 / (1 - rate)`. With `train=False` it is `Dense` with the same
    parameters, and needs no key.

    Memory: in training the masked weights of all examples are there at once, `B * C * features`
    values, and again in the backward pass: 100 MiB for 128 examples and 512 times 400 weights.

    Input and output: `[B, C] -> [B, features]`, floating.

    Parameters: `kernel [C, features]`, `bias [features]`, as those of `Dense`.

    Raises: ValueError for a rate outside [0, 1) or another rank; TypeError on integer input.

    Reference: Wan, Zeiler, Zhang, LeCun, Fergus 2013, "Regularization of neural networks using
    DropConnect", section 3, algorithm 1. Differs: the scaling is done in training, and at test time
    the weights have their means; there the values before the activation are sampled from a Gaussian
    of matching moments (section 3.2, algorithm 2), and the activations averaged.

    >>> layer = DropConnect(3, 0.5)
    >>> variables = layer.init(jax.random.key(0), jnp.ones((2, 4)), train=False)
    >>> x, rngs = jnp.ones((2, 4)), {"dropout": jax.random.key(1)}
    >>> layer.apply(variables, x, train=True, rngs=rngs).shape
    (2, 3)
    """

    features: int
    rate: float
    use_bias: bool = True
    kernel_init: Initializer = lecun_normal()
    bias_init: Initializer = zeros

    @nn.compact
    def __call__(self, x, *, train: bool):
        if not 0 <= self.rate < 1:
            raise ValueError(f"a DropConnect rate lies in [0, 1), not {self.rate}")
        if x.ndim != 2:
            raise ValueError(f"DropConnect takes [B, C], came shape {x.shape}")
        _require_floats(self, x)
        shape = (x.shape[1], self.features)
        weights = self.param("kernel", self.kernel_init, shape, jnp.float32).astype(x.dtype)
        if self.use_bias:
            bias = self.param("bias", self.bias_init, (self.features,), jnp.float32)
            bias = bias.astype(x.dtype)[None]
        if not train or self.rate == 0:
            x = jnp.dot(x, weights)
            return x + bias if self.use_bias else x
        if self.use_bias:  # the weights of one more input, which is 1
            weights = jnp.concatenate([weights, bias])
            x = jnp.concatenate([x, jnp.ones((len(x), 1), x.dtype)], axis=1)
        weights = jnp.broadcast_to(weights, (len(x), *weights.shape))
        return jnp.einsum("bi,bio->bo", x, _drop(self, weights, weights.shape[1:]))


class DropPath(nn.Module):
    """Sets whole examples to zero with probability `rate` and scales the rest by `1 / (1 - rate)`:
    dropout of a residual branch, also called stochastic depth.

    Every example is decided by its own key, as in `Dropout`.

    Input and output: `[B, …]`, floating. With `train=False` it is the identity and needs no key.

    Raises: ValueError for a rate outside [0, 1), TypeError for integers.

    Reference: Huang, Sun, Liu, Sedra, Weinberger 2016, "Deep networks with stochastic depth",
    section 3. Differs: an example, not the batch, drops a branch, and the scaling is done in
    training, not at test time.

    >>> DropPath(0.5).apply({}, jnp.ones((2, 3)), train=False).tolist()
    [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    """

    rate: float

    @nn.compact
    def __call__(self, x, *, train: bool):
        if not 0 <= self.rate < 1:
            raise ValueError(f"a drop-path rate lies in [0, 1), not {self.rate}")
        _require_floats(self, x)
        if not train or self.rate == 0:
            return x
        return _drop(self, x, (1,) * (x.ndim - 1))


def _require_floats(module, x):
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"{type(module).__name__} takes floats, not {x.dtype}")


def _drop(module, x, shape):
    """Drops by one mask of this shape an example."""
    keys = collective.example_keys(module.make_rng("dropout"), x.shape[0])
    keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - module.rate, shape))(keys)
    return jnp.where(keep, x / (1 - module.rate), jnp.zeros((), x.dtype))


def depth_rates(rate: float, blocks: int) -> list[float]:
    """The drop-path rates of a network's blocks, from 0 at the first evenly up to `rate`.

    Reference: Huang et al. 2016, section 3, "linear decay"; the last block has the whole rate.
    Differs: theirs begins at `rate / blocks`, ours at 0, as in Liu et al. 2022.

    >>> depth_rates(0.2, 3)
    [0.0, 0.1, 0.2]
    """
    return [rate * block / max(1, blocks - 1) for block in range(blocks)]
