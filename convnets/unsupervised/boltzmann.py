"""Restricted Boltzmann machines: dense, and convolutional with probabilistic max pooling.

A machine is a module that holds the parameters, and functions of these: its free energy, and
samples of hidden units given visible ones and back. `contrastive.py` trains any of them.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from .. import ops
from ..errors import UserError, unknown
from ..layers.initializers import normal, zeros

VISIBLE = ("binary", "gaussian")
ENUMERATED = 20  # hidden units whose states are all summed over


class RBM(nn.Module):
    """A restricted Boltzmann machine over all values of an image.

    Its energy is `-v W h - b v - c h` for binary visible units, and `1/2 ‖v - b‖² - v W h - c h`
    for Gaussian ones, of variance 1, as whitened images have it; hidden units are binary.

    Attributes:
      features: hidden units.
      visible: `binary`, for images in [0, 1], or `gaussian`.
      chains: persistent ones, for `contrastive_divergence_loss`; they begin with noise.

    Returns: `{"code": [B, features], "reconstruction": …}`, the hidden units' probabilities and the
    visible units' means given these.

    Parameters: `kernel [D, features]`, `visible_bias [D]`, `hidden_bias [features]`.

    Reference: Hinton 2012, "A practical guide to training restricted Boltzmann machines", sections
    2 and 13.2.

    >>> model, images = RBM(16), jnp.ones((2, 4, 4, 1))
    >>> found, variables = model.init_with_output(jax.random.key(0), images, train=False)
    >>> found["code"].shape, model.free_energy(variables["params"], images).shape
    ((2, 16), (2,))
    """

    features: int
    visible: str = "binary"
    chains: int = 0

    @nn.compact
    def __call__(self, images, *, train: bool) -> dict:
        require_kind(self.visible)
        hold_chains(self, images)
        values = images[0].size
        params = {
            "kernel": self.param("kernel", normal(0.01), (values, self.features), jnp.float32),
            "visible_bias": self.param("visible_bias", zeros, (values,), jnp.float32),
            "hidden_bias": self.param("hidden_bias", zeros, (self.features,), jnp.float32),
        }
        code = self.expect_hidden(params, images)
        made = self.expect_visible(params, code)
        return {"code": code, "reconstruction": made.reshape(images.shape)}

    @nn.nowrap
    def free_energy(self, params, images):
        """`-log sum_h exp(-energy)` of each image: `[B, …] -> [B]`."""
        v = images.reshape(len(images), -1)
        hidden = jax.nn.softplus(_hidden_inputs(params, v)).sum(1)
        if self.visible == "gaussian":
            return 0.5 * jnp.square(v - params["visible_bias"][None]).sum(1) - hidden
        return -v @ params["visible_bias"] - hidden

    @nn.nowrap
    def expect_hidden(self, params, images):
        """The probabilities of hidden units: `[B, …] -> [B, features]`."""
        return jax.nn.sigmoid(_hidden_inputs(params, images.reshape(len(images), -1)))

    @nn.nowrap
    def expect_visible(self, params, hidden):
        """The means of visible units: `[B, features] -> [B, D]`."""
        return expect(self.visible, hidden @ params["kernel"].T + params["visible_bias"][None])

    @nn.nowrap
    def sample_hidden(self, key, params, image):
        """Hidden units `[features]`, zeros and ones, given one image."""
        hidden = self.expect_hidden(params, image[None])[0]
        return jax.random.bernoulli(key, hidden).astype(jnp.float32)

    @nn.nowrap
    def sample_visible(self, key, params, hidden, shape):
        """An image of a shape given hidden units `[features]`."""
        mean = self.expect_visible(params, hidden[None])[0]
        return draw(key, self.visible, mean).reshape(shape)

    @nn.nowrap
    def log_likelihood(self, params, images):
        """`log p(v)` of each image in nats, exactly: `[B, …] -> [B]`. All states of the hidden
        units are summed over.

        Raises: UserError for more than 20 hidden units.
        """
        return -self.free_energy(params, images) - self.log_partition(params)

    @nn.nowrap
    def log_partition(self, params):
        """The logarithm of the sum, or the integral, of `exp(-energy)` over all states."""
        hidden = params["kernel"].shape[1]
        if hidden > ENUMERATED:
            raise UserError(
                f"2^{hidden} states are too many to sum over: at most {ENUMERATED} hidden units"
            )
        states = (jnp.arange(2**hidden)[:, None] >> jnp.arange(hidden)[None]) & 1
        states = states.astype(jnp.float32)
        inputs, bias = states @ params["kernel"].T, params["visible_bias"][None]
        if self.visible == "gaussian":
            visible = (inputs * bias + 0.5 * inputs**2 + 0.5 * jnp.log(2 * jnp.pi)).sum(1)
        else:
            visible = jax.nn.softplus(inputs + bias).sum(1)
        return jax.nn.logsumexp(visible + states @ params["hidden_bias"])


class ConvolutionalRBM(nn.Module):
    """A restricted Boltzmann machine whose hidden units are maps of a convolution, pooled by
    probabilistic max pooling: of each block at most one unit is on.

    Attributes:
      features: maps.
      kernel_size: of the convolution, without padding.
      block: height and width of a block; it divides the maps' sides.
      visible: `binary`, or `gaussian` of variance 1.
      chains: persistent ones, for `contrastive_divergence_loss`; they begin with noise.

    Returns: `{"code": [B, H' / block, W' / block, features], "reconstruction": …}`, the pools'
    probabilities, and the visible units' means given the units' probabilities.

    Parameters: `kernel [kernel H, kernel W, C, features]`, `visible_bias [C]`,
    `hidden_bias [features]`.

    Raises: UserError for maps that blocks do not divide.

    Reference: Lee, Grosse, Ranganath, Ng 2009, "Convolutional deep belief networks for scalable
    unsupervised learning of hierarchical representations", sections 3.2 and 3.3.

    >>> model, images = ConvolutionalRBM(8, 5, 2), jnp.ones((2, 12, 12, 1))
    >>> found, _ = model.init_with_output(jax.random.key(0), images, train=False)
    >>> found["code"].shape, found["reconstruction"].shape
    ((2, 4, 4, 8), (2, 12, 12, 1))
    """

    features: int
    kernel_size: int
    block: int = 2
    visible: str = "binary"
    chains: int = 0

    @nn.compact
    def __call__(self, images, *, train: bool) -> dict:
        require_kind(self.visible)
        hold_chains(self, images)
        channels = images.shape[3]
        shape = (self.kernel_size, self.kernel_size, channels, self.features)
        params = {
            "kernel": self.param("kernel", normal(0.01), shape, jnp.float32),
            "visible_bias": self.param("visible_bias", zeros, (channels,), jnp.float32),
            "hidden_bias": self.param("hidden_bias", zeros, (self.features,), jnp.float32),
        }
        units, pools = ops.probabilistic_max_pool(self._inputs(params, images), self.block)
        return {"code": pools, "reconstruction": self.expect_visible(params, units)}

    @nn.nowrap
    def free_energy(self, params, images):
        """`-log sum_h exp(-energy)` of each image: `[B, H, W, C] -> [B]`."""
        inputs = self._inputs(params, images)
        hidden = ops.log_block_partition(inputs, self.block).sum((1, 2, 3))
        bias = params["visible_bias"].reshape(1, 1, 1, -1)
        if self.visible == "gaussian":
            return 0.5 * jnp.square(images - bias).sum((1, 2, 3)) - hidden
        return -(images * bias).sum((1, 2, 3)) - hidden

    @nn.nowrap
    def expect_visible(self, params, units):
        """The means of visible units given hidden ones: `[B, H', W', features] -> [B, H, W, C]`."""
        bias = params["visible_bias"].reshape(1, 1, 1, -1)
        return expect(self.visible, ops.convolve_transposed(units, params["kernel"]) + bias)

    @nn.nowrap
    def sample_hidden(self, key, params, image):
        """Hidden units `[H', W', features]`, zeros and ones, given one image `[H, W, C]`."""
        inputs = self._inputs(params, image[None])
        return ops.sample_probabilistic_max_pool(key, inputs, self.block)[0][0]

    @nn.nowrap
    def sample_visible(self, key, params, hidden, shape):
        """An image of a shape given hidden units `[H', W', features]`."""
        return draw(key, self.visible, self.expect_visible(params, hidden[None])[0]).reshape(shape)

    @nn.nowrap
    def _inputs(self, params, images):
        bias = params["hidden_bias"].reshape(1, 1, 1, -1)
        return ops.convolve(images, params["kernel"]) + bias


def require_kind(visible):
    """Refuses an unknown kind of visible units."""
    if visible not in VISIBLE:
        raise unknown("kind of visible units", visible, VISIBLE)


def hold_chains(machine, images):
    """Makes a place in `batch_stats` for a machine's persistent chains, where it has any."""
    if machine.chains:
        shape = (machine.chains, *images.shape[1:])

        def begin():
            return jax.random.bernoulli(machine.make_rng("params"), 0.5, shape).astype(jnp.float32)

        machine.variable("batch_stats", "chains", begin)


def expect(visible, inputs):
    """The means of visible units by their inputs."""
    return inputs if visible == "gaussian" else jax.nn.sigmoid(inputs)


def draw(key, visible, means):
    """Samples of visible units of these means."""
    if visible == "gaussian":
        return means + jax.random.normal(key, means.shape, means.dtype)
    return jax.random.bernoulli(key, means).astype(jnp.float32)


def _hidden_inputs(params, v):
    return v @ params["kernel"] + params["hidden_bias"][None]
