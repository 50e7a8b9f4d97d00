"""Adversarial training: a loss function that meets the worst images near those it is given."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from ..errors import UserError
from ..ops import collective
from ..ops.image import to_float
from ..tasks import classification_loss


def adversarial_loss(
    loss_fn: Callable,
    *,
    epsilon: float,
    share: float = 0.5,
    steps: int = 1,
    step_size: float | None = None,
) -> Callable:
    """A loss function with `share` of its loss on the images and the rest on attacked ones.

    The attack is made anew in every step, against the parameters of the moment, with the same
    augmentation and dropout as the loss that it raises: the sign of the gradient, once by epsilon,
    or several times from a random start. Evaluation is as it was. Like any loss function it goes
    into `make_step`, and gives the same numbers under `jit`, `shard_map` and `pmap`.

    Args:
      loss_fn: `(params, batch_stats, batch, key) -> (loss, (batch_stats, metrics))`, as
        `classification_loss` makes; the batch has `image`, uint8 or floats in [0, 1].
      epsilon: how far an attacked pixel is moved, in pixels of [0, 1].
      share: of the loss that is on the images as they are, in [0, 1]; at 0 they are left out.
      steps: of the attack.
      step_size: of each of several steps; None for `2.5 * epsilon / steps`.

    Returns: a loss function with metrics of both, the latter named `adversarial_NAME`; at share 0
    all are of attacked images. Batch statistics move toward those of both, one after the other.

    Raises: UserError for values out of their range.

    Reference: Goodfellow, Shlens, Szegedy 2015, section 6, with its share of 0.5; with share 0 and
    several steps Madry et al. 2018, section 2.
    """
    if not 0 < epsilon <= 1 or not 0 <= share < 1 or steps < 1:
        raise UserError(
            "adversarial training takes an epsilon in pixels of (0, 1], a share in [0, 1) and at "
            f"least 1 step, not {epsilon}, {share} and {steps}"
        )
    if step_size is not None and (steps == 1 or not step_size > 0):
        raise UserError(f"step_size is above 0 and of several steps, not {step_size} of {steps}")
    size = epsilon if steps == 1 else 2.5 * epsilon / steps if step_size is None else step_size

    def attack(params, batch_stats, batch, key, start_key):
        """The images of the batch, each moved to where the loss is larger."""
        clean = to_float(batch["image"])
        params = lax.stop_gradient(params)

        def loss_of(images):
            return loss_fn(params, batch_stats, {**batch, "image": images}, key)[0]

        x = clean
        if steps > 1:
            keys = collective.example_keys(start_key, len(clean))
            x = x + jax.vmap(lambda k, x: jax.random.uniform(k, x.shape, x.dtype, -1, 1))(
                keys, clean
            ) * jnp.float32(epsilon)
            x = jnp.clip(x, 0, 1)
        for _ in range(steps):
            x = x + size * jnp.sign(jax.grad(loss_of)(x))
            x = jnp.clip(jnp.clip(x, clean - epsilon, clean + epsilon), 0, 1)
        return lax.stop_gradient(x)

    def attacked_loss(params, batch_stats, batch, key):
        if key is None:
            return loss_fn(params, batch_stats, batch, key)
        start_key, key = jax.random.split(key)
        attacked = {**batch, "image": attack(params, batch_stats, batch, key, start_key)}
        value, measured = 0.0, {}
        if share:
            value, (batch_stats, measured) = loss_fn(params, batch_stats, batch, key)
        worse, (batch_stats, theirs) = loss_fn(params, batch_stats, attacked, key)
        if not share:
            measured = theirs
        measured = measured | {f"adversarial_{name}": pair for name, pair in theirs.items()}
        return share * value + (1 - share) * worse, (batch_stats, measured)

    return attacked_loss


def adversarial_classification(model, *, normalization=None, epsilon: float, **options):
    """Adversarial training of a classifier as an objective of `fit`.

    Args:
      model, normalization: as in `classification_loss`.
      epsilon, options: as in `adversarial_loss`.

    >>> from functools import partial
    >>> import convnets
    >>> model, dataset = convnets.create_model("linear"), convnets.load_dataset("digits")
    >>> objective = partial(adversarial_classification, epsilon=0.1)
    >>> result = convnets.fit(model, dataset, objective=objective, augment=(), steps=2,
    ...                       progress=False)
    >>> int(result.state.step)
    2
    """
    loss_fn = classification_loss(model, normalization=normalization)
    return adversarial_loss(loss_fn, epsilon=epsilon, **options)
