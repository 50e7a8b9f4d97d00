"""An auto-encoder of local filters that nothing shares, pooling and contrast normalization: the
network of a billion parameters that learned what a face is from pictures without labels."""

from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from .. import losses, metrics, ops
from ..layers import LocallyConnected
from ..layers.initializers import variance_scaling
from .reconstruction import unexplained
from .requirements import require_weights

EPSILON = 1e-6  # below the roots: pooled codes have a gradient at 0
FLOOR = 0.01  # the least contrast that is divided by; c in the paper


class StageValues(NamedTuple):
    """What one stage makes of its input, all `[B, …]`.

    Attributes:
      input: `[B, H, W, C]`.
      code: the filters' responses, linear in it: `[B, H', W', features]`.
      reconstruction: of the input, from the code.
      pooled: the code, pooled: `[B, H'', W'', features]`.
      output: the pooled code, contrast normalized.
    """

    input: jax.Array
    code: jax.Array
    reconstruction: jax.Array
    pooled: jax.Array
    output: jax.Array


class LocalStage(nn.Module):
    """Local filtering, L2 pooling, local contrast normalization.

    Attributes:
      features: filters for each place.
      filter_size: their height and width.
      stride, padding: how far places are apart, and zeros around the image.
      pool, pool_stride: height and width of a pool, an odd number, and the step between pools;
        they begin half a pool before the image.
      contrast: height and width of the Gaussian of the contrast normalization.

    Parameters: `encoder/kernel` and `decoder`, both `[H', W', filter_size, filter_size, C,
    features]`, W1 and W2 of the paper. The decoder starts at a tenth of the encoder's deviation,
    so that what is reconstructed begins near the mean.

    Raises: UserError for images smaller than a filter.

    >>> stage = LocalStage(filter_size=6, pool=3).init_with_output(
    ...     jax.random.key(0), jnp.ones((1, 16, 16, 3)))[0]
    >>> stage.reconstruction.shape, stage.output.shape
    ((1, 16, 16, 3), (1, 11, 11, 8))
    """

    features: int = 8
    filter_size: int = 18
    stride: int = 1
    padding: int = 0
    pool: int = 5
    pool_stride: int = 1
    contrast: int = 5

    @nn.compact
    def __call__(self, x) -> StageValues:
        places = {"stride": self.stride, "padding": self.padding}
        encoder = LocallyConnected(
            self.features, self.filter_size, use_bias=False, name="encoder", **places
        )
        code = encoder(x)
        shape = encoder.get_variable("params", "kernel").shape
        scale = variance_scaling(0.01, "fan_in", "normal", in_axis=(2, 3, 4), batch_axis=(0, 1))
        decoder = self.param("decoder", scale, shape, jnp.float32).astype(x.dtype)
        reconstruction = ops.spread_locally(code, decoder, x.shape[1:3], **places)
        energy = ops.sum_pool(code * code, self.pool, self.pool_stride, self.pool // 2)
        pooled = jnp.sqrt(energy + EPSILON)
        normalized = ops.local_contrast_normalization(
            pooled, window=self.contrast, sigma=self.contrast / 5, floor=FLOOR
        )
        return StageValues(x, code, reconstruction, pooled, normalized)


class LocalAutoencoder(nn.Module):
    """Stages on top of each other, each of which reconstructs its input.

    Attributes:
      stages: what makes each stage, called with a name.

    As it is, for images `[B, 200, 200, 3]`, it has 1,033,622,208 parameters.

    Returns: `StageValues` for each.

    Reference: Le, Ranzato, Monga, Devin, Chen, Corrado, Dean, Ng 2012, "Building high-level
    features using large scale unsupervised learning", section 3: three stages of filters of 18x18,
    8 for each place, pools of 5x5, contrast normalization over 5x5, images of 200x200, one billion
    parameters. Differs: the paper does not say how far places are apart; here every place has
    filters, the first stage's pools are two apart, and the inputs of the others are padded by 4,
    which makes a billion.

    >>> images = jax.ShapeDtypeStruct((1, 200, 200, 3), "float32")
    >>> init = partial(LocalAutoencoder().init, train=False)
    >>> variables = jax.eval_shape(init, jax.random.key(0), images)
    >>> sum(leaf.size for leaf in jax.tree.leaves(variables))
    1033622208
    """

    stages: tuple = (
        partial(LocalStage, pool_stride=2),
        partial(LocalStage, padding=4),
        partial(LocalStage, padding=4),
    )

    @nn.compact
    def __call__(self, images, *, train: bool) -> tuple[StageValues, ...]:
        found, x = [], images
        for number, stage in enumerate(self.stages, 1):
            found.append(stage(name=f"stage{number}")(x))
            x = found[-1].output
        return tuple(found)


def local_reconstruction_loss(model, *, normalization=None, sparsity: float = 0.1):
    """A loss function of all stages together, by reconstruction and sparsity of the pooled code.

    Of a stage with the input x, `(‖W2 W1ᵀ x - x‖² + λ Σ_j sqrt(ε + H_j (W1ᵀ x)²)) / n`, where H_j
    adds up a pool and n counts the values of x; of the network the sum over its stages.

    Args:
      model: a `LocalAutoencoder`.
      normalization: of the images.
      sparsity: λ, not negative.

    Returns: `loss_fn(params, batch_stats, batch, key)`. A batch has `image [B, H, W, C]`, and may
      have `mask [B]`, false for padding. Metrics are `loss`; `unexplained1`, …, of each stage, as
      `reconstruction_loss` has it; and `unexplained`, of the stages together.

    Reference: Le et al. 2012, equation 1. Differs: divided by n, so that a stage does not count
    for more, nor a rate for more, the larger it is.

    >>> model = LocalAutoencoder(stages=(partial(LocalStage, filter_size=6),))
    >>> images = jax.random.uniform(jax.random.key(0), (2, 12, 12, 3))
    >>> params = model.init(jax.random.key(0), images, train=False)["params"]
    >>> _, (_, found) = local_reconstruction_loss(model)(params, {}, {"image": images}, None)
    >>> sorted(found)
    ['loss', 'unexplained', 'unexplained1']
    """
    require_weights(sparsity=sparsity)

    def loss_fn(params, batch_stats, batch, key):
        images = ops.prepare(batch["image"], normalization)
        stages = model.apply({"params": params}, images, train=key is not None)
        mask = batch.get("mask")
        values = sum(_objective(stage, sparsity) for stage in stages)
        missed = [unexplained(stage.reconstruction, stage.input, mask) for stage in stages]
        measured = {
            "loss": metrics.mean_metric(values, mask),
            "unexplained": tuple(sum(parts) for parts in zip(*missed)),
            **{f"unexplained{number}": pair for number, pair in enumerate(missed, 1)},
        }
        return losses.weighted_mean(values, mask), (batch_stats, measured)

    return loss_fn


def _objective(stage, sparsity):
    size = stage.input[0].size
    return (_squares(stage.reconstruction - stage.input) + sparsity * _sum(stage.pooled)) / size


def _squares(x):
    return _sum(jnp.square(x))


def _sum(x):
    """Over all but the examples, in float32."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32)).sum((1, 2, 3))
