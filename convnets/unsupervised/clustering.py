"""k-means as a module: centers that ride beside batch statistics, and features by distance."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from .. import losses, metrics
from ..errors import UserError
from ..layers.initializers import normal
from ..ops import collective, image
from .reconstruction import unexplained


class KMeans(nn.Module):
    """Centers of clusters of images, each taken as one vector of D values.

    With `train` every image of the whole batch moves its nearest center toward it: a center is the
    mean of all the images that it has had, where the first ones are half forgotten with every
    `memory` batches. Centers begin as images of the first batch, and one that remembers less than
    half an image begins again, as one of the batch: none lies idle far from all images.

    Attributes:
      clusters: how many.
      memory: batches after which an image's weight in its center's mean is halved, above 0.

    Returns: `{"code": [B, clusters], "reconstruction": …}`: by how much each center is nearer than
    the mean distance, 0 for those that are not; and the nearest center.

    Variables: of `batch_stats`, `centers [clusters, D]`, noise until the first batch, and `counts
    [clusters]`, the images that a center still remembers; no parameters.

    Raises: UserError for no cluster, no memory and local steps.

    Reference: Coates, Lee, Ng 2011, "An analysis of single-layer networks in unsupervised feature
    learning", section 3.2.1 (the triangle activation); Sculley 2010, "Web-scale k-means
    clustering". Differs: forgetting, which lets centers of the first, poor assignments go on, and
    new beginnings.

    >>> model, images = KMeans(5), jnp.ones((2, 4, 4, 1))
    >>> found, variables = model.init_with_output(jax.random.key(0), images, train=False)
    >>> found["code"].shape, variables["batch_stats"]["centers"].shape
    ((2, 5), (5, 16))
    """

    clusters: int
    memory: int = 20

    @nn.compact
    def __call__(self, images, *, train: bool) -> dict:
        if not (isinstance(self.clusters, int) and self.clusters >= 1 and self.memory > 0):
            raise UserError(
                "k-means needs a cluster and a memory above 0, came "
                f"{self.clusters} and {self.memory}"
            )
        x = images.reshape(len(images), -1)
        shape = (self.clusters, x.shape[1])

        def begin():
            return normal(0.1)(self.make_rng("params"), shape, jnp.float32)

        centers = self.variable("batch_stats", "centers", begin)
        counts = self.variable("batch_stats", "counts", jnp.zeros, (self.clusters,), jnp.float32)
        learning = train and not self.is_initializing()
        if learning:
            collective.require_together("centers of clusters")
            centers.value = begin_again(centers.value, counts.value < 0.5, x)
        squares = squared_distances(x, centers.value)
        nearest = squares.argmin(1)
        distances = jnp.sqrt(squares)
        code = jnp.maximum(distances.mean(1, keepdims=True) - distances, 0)
        made = centers.value[nearest].reshape(images.shape)
        if learning:
            mine = jax.nn.one_hot(nearest, self.clusters, dtype=x.dtype)
            sums, came = collective.sum_over_data((mine.T @ x, mine.sum(0)))
            weight = counts.value * 0.5 ** (1 / self.memory) + came
            share = jnp.maximum(weight, 1e-8)[:, None]
            centers.value = centers.value + (sums - came[:, None] * centers.value) / share
            counts.value = weight
        return {"code": code, "reconstruction": made}


def clustering_loss(model: KMeans, *, normalization: image.Normalization | None = None):
    """The loss function of k-means: half the squared distance from the nearest center. There is
    nothing to differentiate: the centers move by themselves, as batch statistics do, and as these
    by all images of a batch: what a mask leaves out is left out of the measures alone.

    Returns: `loss_fn(params, batch_stats, batch, key) -> (loss, (batch_stats, metrics))`, for
    `params` without a leaf; metrics `loss`, `unexplained`.
    """

    def loss_fn(params, batch_stats, batch, key):
        mask, images = batch.get("mask"), image.prepare(batch["image"], normalization)
        train = key is not None
        found, updates = model.apply(
            {"params": params, "batch_stats": batch_stats},
            images,
            train=train,
            mutable=["batch_stats"] if train else [],
        )
        values = losses.squared_error(found["reconstruction"], images)
        measured = {
            "loss": metrics.mean_metric(values, mask),
            "unexplained": unexplained(found["reconstruction"], images, mask),
        }
        batch_stats = updates.get("batch_stats", batch_stats)
        return losses.weighted_mean(values, mask), (batch_stats, measured)

    return loss_fn


def squared_distances(x, centers):
    """`[B, D]`, `[K, D]` to `[B, K]`, at least 0.

    >>> squared_distances(jnp.array([[0.0, 3.0]]), jnp.array([[4.0, 0.0]])).tolist()
    [[25.0]]
    """
    middle = centers.mean(0, keepdims=True)  # far from 0 the differences below would be rounding
    x, centers = x - middle, centers - middle
    own = jnp.square(x).sum(1, keepdims=True) + jnp.square(centers).sum(1)[None]
    return jnp.maximum(own - 2 * x @ centers.T, 0)


def begin_again(centers, idle, x):
    """Centers `[K, D]` of which those that are idle, bool `[K]`, become vectors of the whole batch,
    `[B, D]` of it here: one after the other in its order, and from its first on where it has fewer.

    >>> begin_again(jnp.zeros((2, 1)), jnp.array([False, True]), jnp.array([[5.0], [6.0]])).tolist()
    [[0.0], [5.0]]
    """
    count = len(x) * (collective.axis_size() or 1)
    wanted = (jnp.cumsum(idle) - 1) % count
    chosen = collective.global_indices(len(x))[None] == wanted[:, None]
    found = collective.sum_over_data(chosen.astype(x.dtype) @ x)
    return jnp.where(idle[:, None], found, centers)
