"""Does the network learn a few images by heart?"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ..tasks import classification_loss
from ..training import TrainState, make_step
from ..training.loop import train
from .finding import Finding, judge
from .sampling import spread

EXAMPLES, STEPS = 32, 400
RATES = (1e-3, 1e-2, 1e-4)  # of Adam, one after the other until one does


def check_overfit(
    model, dataset, *, normalization=None, loss: str = "cross_entropy", seed: int = 0
) -> Finding:
    """Trains on one small batch by Adam until every image of it is right.

    A network that cannot do this will not learn a whole data set: its inputs do not reach it, its
    gradient is wrong, or it is too small.

    Args:
      model, dataset: as in `fit`.
      normalization: of the images; None for the data set's own.
      loss: as the option of `fit`.
      seed: of the first weights and of dropout.

    Reference: Fergus 2018, "Deep learning lecture 1: introduction and convnets", "Some practical
    debugging tips": train on a small subset of data; the training error should go to 0.
    """
    count = min(EXAMPLES, len(dataset.train))
    batch = dataset.train.batch(spread(len(dataset.train), count))
    normalization = dataset.normalization if normalization is None else normalization
    loss_fn = classification_loss(model, normalization=normalization, loss=loss)
    optimizer = optax.inject_hyperparams(optax.adam)(learning_rate=RATES[0])
    step = jax.jit(make_step(loss_fn, optimizer))
    init_key, key = jax.random.split(jax.random.key(seed))
    images = jnp.zeros((1, *dataset.image_shape))
    variables = jax.jit(model.init, static_argnames="train")(init_key, images, train=False)
    start = TrainState.create(variables, optimizer, key)
    least, steps = count, STEPS
    for rate in RATES:
        start.opt_state.hyperparams["learning_rate"] = jnp.float32(rate)
        wrong, steps = _train(step, start, batch)
        least = min(least, wrong)
        if wrong == 0:
            break
    share, labels = 100 * least / count, len(np.unique(batch["label"]))
    found = f"{count} images of {labels} classes learned by heart in {steps} steps of Adam"
    if least:
        found = f"{least} of {count} images are still wrong after {STEPS} steps of Adam"
    return Finding(
        "overfit",
        "",
        judge(share > 10, least > 0),
        share,
        "% error",
        found,
        "Look at the data and their scale, then at the gradients, then make the network larger.",
    )


def _train(step, state, batch):
    """Images wrong at best, counted in training mode, and the steps until then."""
    least, best = len(batch["label"]), STEPS
    for number, _, metrics in train(step, state, itertools.repeat(batch), stop=STEPS):
        total, count = metrics["accuracy"]
        wrong = int(count) - int(total)
        if wrong < least:
            least, best = wrong, number
        if not least:
            break
    return least, best
