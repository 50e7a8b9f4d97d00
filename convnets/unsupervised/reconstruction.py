"""What auto-encoders minimize: the error of the reconstruction, and what else shapes the code."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from .. import losses, metrics
from ..errors import UserError, unknown
from ..ops import image
from .requirements import require_probabilities, require_weights

ERRORS = ("squared_error", "cross_entropy")


def reconstruction_loss(
    model,
    *,
    normalization: image.Normalization | None = None,
    error: str = "squared_error",
    corrupt=None,
    sparsity: float = 0.0,
    contraction: float = 0.0,
):
    """The loss function of an auto-encoder.

    `‖x' - x‖² + sparsity * sum |h| + contraction * ‖dh/dx‖²` for each example, with the code `h`
    and the reconstruction `x'` that the model makes of `x`, or of its corrupted form; the last
    term is the squared Frobenius norm of the Jacobian.

    Args:
      model: of `{"code", "reconstruction"}`, as `Autoencoder`.
      normalization: of the images; None leaves them in [0, 1].
      error: `squared_error`, or `cross_entropy` between images in [0, 1] and the reconstruction as
        logits, summed over pixels.
      corrupt: `f(key, image) -> image` on one float image, as those in `corruption`, in training
        only: a denoising auto-encoder.
      sparsity: weight of the absolute values of the code.
      contraction: weight of the Jacobian of the code by the image; it costs a forward pass for
        each value of the code, or of the image, where these are fewer.

    Returns: `loss_fn(params, batch_stats, batch, key) -> (loss, (batch_stats, metrics))`. Of the
    batch `image` and `mask` are read. Metrics, over the examples of the mask: `loss`, and
    `unexplained`, the squared error of the reconstruction over the image's squared distance from
    its own mean, which is 1 for a network that says the mean of each image; NaN where every image
    is all of one value.

    Raises: UserError for an unknown error, a negative weight, a corruption that is no function, a
    model that makes no code and reconstruction, and for the cross entropy of images that the
    normalization takes out of [0, 1].

    Reference: Ranzato 2012, "Sparse auto-encoder" (sparsity); Vincent et al. 2010 (corruption);
    Rifai, Vincent, Muller, Glorot, Bengio 2011, "Contractive auto-encoders", equation 2.

    >>> from convnets.unsupervised import DenseAutoencoder
    >>> model, batch = DenseAutoencoder((2,)), {"image": jnp.ones((3, 1, 2, 1))}
    >>> params = model.init(jax.random.key(0), batch["image"], train=False)["params"]
    >>> dark = jax.tree.map(jnp.zeros_like, params)  # a reconstruction of zeros
    >>> reconstruction_loss(model)(dark, {}, batch, None)[0].item()
    2.0
    """
    if error not in ERRORS:
        raise unknown("error", error, ERRORS)
    require_weights(sparsity=sparsity, contraction=contraction)
    if corrupt is not None and not callable(corrupt):
        raise UserError(f"corrupt is a function, such as mask_pixels, not {corrupt!r}")
    if error == "cross_entropy":
        require_probabilities("the cross entropy", normalization, "take the squared error")

    def loss_fn(params, batch_stats, batch, key):
        train, mask = key is not None, batch.get("mask")
        variables = {"params": params, **({"batch_stats": batch_stats} if batch_stats else {})}
        target = image.prepare(batch["image"], normalization)
        seen, rngs = target, {}
        if train:
            corrupt_key, dropout_key = jax.random.split(key)
            seen = image.prepare(batch["image"], None, corrupt, corrupt_key)
            seen, rngs = image.normalize(seen, normalization), {"dropout": dropout_key}
        mutable = ["batch_stats"] if train else []
        found, updates = model.apply(variables, seen, train=train, mutable=mutable, rngs=rngs)
        if not isinstance(found, Mapping) or not {"code", "reconstruction"} <= found.keys():
            raise UserError(f"{type(model).__name__} makes no code and reconstruction of an image")
        made = found["reconstruction"].astype(jnp.float32)
        values = _errors(error, made, target)
        if sparsity:
            values += sparsity * _flat(jnp.abs(found["code"])).sum(1)
        if contraction:

            def encode(one):
                return model.apply(variables, one[None], train=False)["code"]

            values += contraction * jax.vmap(lambda one: squared_jacobian(encode, one))(seen)
        pixels = jax.nn.sigmoid(made) if error == "cross_entropy" else made
        measured = {
            "loss": metrics.mean_metric(values, mask),
            "unexplained": unexplained(pixels, target, mask),
        }
        return losses.weighted_mean(values, mask), (
            updates.get("batch_stats", batch_stats),
            measured,
        )

    return loss_fn


def unexplained(reconstruction, target, mask=None):
    """The squared error of reconstructions over the squared distance of the images from their
    means: `(sum, sum)`, of floats, `[B, …]` each.

    >>> image = jnp.array([[0.0, 2.0]])
    >>> [float(x) for x in unexplained(jnp.ones((1, 2)), image)]
    [2.0, 2.0]
    """
    target = _flat(target)
    wrong = jnp.square(_flat(reconstruction) - target).sum(1)
    spread = jnp.square(target - target.mean(1, keepdims=True)).sum(1)
    return metrics.mean_metric(wrong, mask)[0], metrics.mean_metric(spread, mask)[0]


def squared_jacobian(function, x):
    """The sum of the squares of all derivatives of a function's values by those of `x`.

    >>> squared_jacobian(lambda x: 3 * x, jnp.ones(2)).item()
    18.0
    """
    outputs = jax.eval_shape(function, x).size
    jacobian = jax.jacrev(function) if outputs < x.size else jax.jacfwd(function)
    return jnp.square(jacobian(x)).sum()


def _errors(error, made, target):
    if error == "squared_error":
        return 2 * losses.squared_error(made, target)
    log_on, log_off = jax.nn.log_sigmoid(made), jax.nn.log_sigmoid(-made)
    return -_flat(target * log_on + (1 - target) * log_off).sum(1)


def _flat(x):
    return x.reshape(len(x), -1)
