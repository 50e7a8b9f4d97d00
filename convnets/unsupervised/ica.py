"""Independent component analysis with a reconstruction cost in the place of orthogonality."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from .. import losses, metrics
from ..errors import UserError
from ..ops import image
from .reconstruction import unexplained


class ReconstructionICA(nn.Module):
    """Linear filters, and what their transpose makes of their responses: `W x` and `Wᵀ W x`.

    Attributes:
      filters: a linear module of images, without biases, called `(images)`: as `layers.Conv`, whose
        kernel may be as large as the image, `layers.TiledConv` and `LocallyConnected`.

    Returns: `{"code": …, "reconstruction": …}`, the responses as the filters give them.

    Parameters: `filters/…`.

    Raises: UserError for filters with biases.

    >>> from convnets.layers import TiledConv
    >>> model = ReconstructionICA(TiledConv(4, 3, period=2, use_bias=False))
    >>> found, _ = model.init_with_output(jax.random.key(0), jnp.ones((2, 6, 6, 1)), train=False)
    >>> found["code"].shape, found["reconstruction"].shape
    ((2, 4, 4, 4), (2, 6, 6, 1))
    """

    filters: nn.Module

    @nn.compact
    def __call__(self, images, *, train: bool) -> dict:
        if self.is_initializing():
            self.filters(images)
        filters, variables = self.filters.unbind()
        if "bias" in variables["params"]:
            raise UserError("filters are linear here: give them use_bias=False")
        code, transpose = jax.vjp(partial(filters.apply, variables), images)
        return {"code": code, "reconstruction": transpose(code)[0]}


def reconstruction_ica_loss(
    model: ReconstructionICA,
    penalty: float,
    *,
    pool=None,
    epsilon: float = 1e-2,
    normalization: image.Normalization | None = None,
):
    """The loss function of reconstruction ICA, whatever its filters are.

    `‖Wᵀ W x - x‖² + penalty * sum sqrt(epsilon + h)` for each example, where `h` are the squares
    of the filters' responses `W x`, summed over the neighborhoods of `pool`.

    Args:
      model: of filters of any kind.
      penalty: of the responses.
      pool: `f(squares [B, H', W', K]) -> sums`, as a partial of `ops.sum_pool`: topographic ICA;
        None for each response alone.
      epsilon: rounds off the corner of the absolute value.
      normalization: of the images, which are best whitened; None leaves them.

    Returns: `loss_fn(params, batch_stats, batch, key) -> (loss, (batch_stats, metrics))`; metrics
    `loss`, `unexplained`.

    Raises: UserError for a penalty below 0 and an epsilon that is not positive.

    Reference: Le, Karpenko, Ngiam, Ng 2011, "ICA with reconstruction cost for efficient
    overcomplete feature learning", equation 2 (their λ is 1 / penalty); Le et al. 2010, "Tiled
    convolutional neural networks", equation 1 (pooling). Differs: tiled ICA there is orthogonal
    within each tile.

    >>> from convnets.layers import Conv
    >>> model = ReconstructionICA(Conv(1, 1, use_bias=False))
    >>> params = {"filters": {"kernel": jnp.ones((1, 1, 1, 1))}}  # responses are the pixels
    >>> loss_fn = reconstruction_ica_loss(model, 0.5, epsilon=1e-6)
    >>> round(loss_fn(params, {}, {"image": jnp.full((1, 2, 2, 1), 3.0)}, None)[0].item(), 3)
    6.0
    """
    if not penalty >= 0 or not epsilon > 0:
        raise UserError(
            f"the penalty must not be negative and epsilon positive, came {penalty} and {epsilon}"
        )

    def loss_fn(params, batch_stats, batch, key):
        mask, x = batch.get("mask"), image.prepare(batch["image"], normalization)
        found = model.apply({"params": params}, x, train=key is not None)
        made, squares = found["reconstruction"], jnp.square(found["code"])
        pooled = squares if pool is None else pool(squares)
        values = 2 * losses.squared_error(made, x)
        values += penalty * jnp.sqrt(epsilon + pooled).reshape(len(x), -1).sum(1)
        measured = {
            "loss": metrics.mean_metric(values, mask),
            "unexplained": unexplained(made, x, mask),
        }
        return losses.weighted_mean(values, mask), (batch_stats, measured)

    return loss_fn


def amari_distance(unmixing, mixing) -> float:
    """How far a found unmixing is from the inverse of the mixing, up to order and scale of the
    sources: 0 for the inverse, at most 1.

    Args:
      unmixing, mixing: `[K, K]`; their product is to have one large element in each row and column.

    Raises: UserError for a single source.

    Reference: Amari, Cichocki, Yang 1996, "A new learning algorithm for blind signal separation",
    section 5, divided by `2 K (K - 1)`.

    >>> amari_distance(jnp.array([[0.0, 2.0], [1.0, 0.0]]), jnp.eye(2))
    0.0
    """
    product = jnp.abs(jnp.asarray(unmixing) @ jnp.asarray(mixing))
    sources = len(product)
    if sources < 2:
        raise UserError("one source alone is not mixed: the distance is of two or more")
    rows = (product / product.max(1, keepdims=True)).sum(1) - 1
    columns = (product / product.max(0, keepdims=True)).sum(0) - 1
    return float((rows.sum() + columns.sum()) / (2 * sources * (sources - 1)))
