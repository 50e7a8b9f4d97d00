"""Contrastive divergence: the data's free energy lowered, that of samples of the model raised."""

import jax
from jax import lax

from .. import losses, metrics
from ..errors import UserError
from ..ops import collective, image
from .reconstruction import unexplained
from .requirements import require_learner, require_probabilities


def contrastive_divergence_loss(
    model, *, steps: int = 1, normalization: image.Normalization | None = None
):
    """The loss function of a Boltzmann machine whose gradient is that of contrastive divergence.

    `F(v) - F(v')`, where `v'` comes from the image `v` by some steps of Gibbs sampling and is held
    while the gradient is taken. Where the model has `chains`, the samples are those of persistent
    chains in its place, which go on from step to step: the value is then the images' free energy
    less the chains' mean.

    Args:
      model: `RBM`, `ConvolutionalRBM`.
      steps: of Gibbs sampling, hidden units and visible units once each.
      normalization: of the images; None leaves them in [0, 1], where binary units take them for
        probabilities.

    Returns: `loss_fn(params, batch_stats, batch, key) -> (loss, (batch_stats, metrics))`. Metrics,
    over the examples of the mask: as `loss` the free energy of the images, and `unexplained`, of
    the reconstruction by the hidden units' probabilities. Neither says how well the model fits:
    small machines have `log_likelihood`. Free energies of two states are not of one scale, so that
    `fit` lets no state be the best on validation and nothing be decided there: `loss_fn.ranks` is
    False.

    Raises: UserError for fewer than 1 step, another model, local steps of chains, and for binary
    units of images that the normalization takes out of [0, 1].

    Reference: Hinton 2002, "Training products of experts by minimizing contrastive divergence";
    Tieleman 2008, "Training restricted Boltzmann machines using approximations to the likelihood
    gradient" (persistent chains).

    >>> from convnets.unsupervised import RBM
    >>> model, batch = RBM(4), {"image": jnp.ones((3, 1, 2, 1))}
    >>> params = model.init(jax.random.key(0), batch["image"], train=False)["params"]
    >>> zeros = jax.tree.map(jnp.zeros_like, params)
    >>> loss, (_, found) = contrastive_divergence_loss(model)(zeros, {}, batch, jax.random.key(1))
    >>> loss.item(), round(float(found["loss"][0] / found["loss"][1]), 4)  # -4 log 2
    (0.0, -2.7726)
    """
    if not isinstance(steps, int) or steps < 1:
        raise UserError(f"at least 1 step of Gibbs sampling, not {steps!r}")
    learners = "Boltzmann machines"
    require_learner("contrastive_divergence_loss", model, learners, "free_energy", "visible")
    if model.visible == "binary":
        require_probabilities("a binary machine", normalization, "take visible='gaussian'")

    def loss_fn(params, batch_stats, batch, key):
        mask, images = batch.get("mask"), image.prepare(batch["image"], normalization)
        energy = values = model.free_energy(params, images)
        if key is not None:
            chains = batch_stats.get("chains")
            if chains is None:
                keys = collective.example_keys(key, len(images))
                samples = run_chains(keys, model, params, images, steps)
                values = energy - model.free_energy(params, samples)
            else:  # the same on every device
                collective.require_together("chains")
                keys = jax.random.split(key, len(chains))
                samples = run_chains(keys, model, params, chains, steps)
                values = energy - model.free_energy(params, samples).mean()
                batch_stats = {**batch_stats, "chains": collective.mean_over_data(samples)}
        variables = {"params": params, **({"batch_stats": batch_stats} if batch_stats else {})}
        found = model.apply(variables, images, train=False)
        measured = {
            "loss": metrics.mean_metric(energy, mask),
            "unexplained": unexplained(found["reconstruction"], images, mask),
        }
        return losses.weighted_mean(values, mask), (batch_stats, measured)

    loss_fn.ranks = False
    return loss_fn


def run_chains(keys, model, params, images, steps: int):
    """Samples after some steps of Gibbs sampling from images; no gradient goes through them.

    Args:
      keys: one for each image.
      images: `[B, H, W, C]`, where to begin.

    Returns: `[B, H, W, C]`.
    """
    params = lax.stop_gradient(params)

    def step(number, state):
        keys, images = state
        return keys, jax.vmap(lambda key, x: sample(jax.random.fold_in(key, number), x))(
            keys, images
        )

    def sample(key, x):
        hidden_key, visible_key = jax.random.split(key)
        hidden = model.sample_hidden(hidden_key, params, x)
        return model.sample_visible(visible_key, params, hidden, x.shape)

    begin = collective.varying_over_data((keys, images))
    return lax.stop_gradient(lax.fori_loop(0, steps, step, begin)[1])
