"""A data set as a network sees it: features, their nearest neighbors, and their map by t-SNE."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from ..data import evaluation_batches
from ..errors import UserError, unknown
from ..ops import image
from .arguments import require_source
from .units import endpoint_shapes, run_endpoints


def read_features(
    model, variables, source, endpoint: str = "pre_logits", *, batch_size=256, normalization=None
) -> np.ndarray:
    """The features of every image of a source, `[N, D]` float32; of maps their means over places.

    Args:
      model, variables, normalization: see `convnets.visualize`.
      source: such as `dataset.test`, read by the batch.

    Raises: UserError for an endpoint that is not there, and for what is no source.
    """
    require_source(source)
    shapes = endpoint_shapes(model, variables, np.empty((1, *source.image_shape), np.uint8))
    if endpoint not in shapes:
        raise unknown("endpoint", endpoint, shapes)
    run = partial(_features, model, variables, normalization, endpoint=endpoint)
    batches = evaluation_batches(source, min(batch_size, len(source)))
    return np.concatenate([np.asarray(run(x["image"]))[x["mask"]] for x in batches])


def nearest_neighbors(features, queries, *, count: int = 5, metric: str = "euclidean"):
    """The nearest features of each query, the nearest first.

    Args:
      features: `[N, D]`.
      queries: `[Q, D]`; one that is among the features is the nearest of itself, or another one
        that equals it.
      count: at most N.
      metric: `euclidean`, `cosine` or another of scikit-learn.

    Returns: their positions among the features, int `[Q, count]`, and the distances.

    Raises: UserError for arrays that do not fit and a count that is too large.

    >>> positions, distances = nearest_neighbors(np.eye(3), np.eye(3)[:1] * 2, count=1)
    >>> positions.tolist(), distances.tolist()
    ([[0]], [[1.0]])
    """
    from sklearn.neighbors import NearestNeighbors

    features, queries = np.asarray(features), np.asarray(queries)
    if features.ndim != 2 or queries.ndim != 2 or features.shape[1] != queries.shape[1]:
        raise UserError(
            f"expected features [N, D] and queries [Q, D], came {features.shape} and "
            f"{queries.shape}"
        )
    if not 1 <= count <= len(features):
        raise UserError(f"there are {len(features)} features, and {count} neighbors are asked for")
    search = NearestNeighbors(n_neighbors=count, metric=metric, algorithm="brute").fit(features)
    distances, positions = search.kneighbors(queries)
    return positions, distances


def tsne(features, *, perplexity: float = 30.0, seed: int = 0) -> np.ndarray:
    """Features `[N, D]` in the plane, neighbors near each other: `[N, 2]`.

    Args:
      perplexity: about how many neighbors count, less than N.
      seed: of t-SNE, which starts at the principal components.

    Raises: UserError for a perplexity that is not above 0 and less than N.

    Reference: van der Maaten, Hinton 2008, "Visualizing data using t-SNE"; scikit-learn's.
    """
    from sklearn.manifold import TSNE

    features = np.asarray(features, np.float32)
    if features.ndim != 2 or not np.isfinite(features).all():
        raise UserError(f"expected finite features [N, D], came {features.shape}")
    if not 0 < perplexity < len(features):
        raise UserError(f"perplexity is between 0 and {len(features)} features, not {perplexity}")
    tsne = TSNE(perplexity=perplexity, init="pca", random_state=seed)
    return tsne.fit_transform(features)


def plot_embedding(points, labels, *, class_names=None, title: str = ""):
    """Points `[N, 2]`, in a color for each of their labels `[N]`, as a matplotlib figure."""
    import matplotlib.pyplot as plt

    points, labels = np.asarray(points), np.asarray(labels)
    if points.ndim != 2 or points.shape[1] != 2 or labels.shape != points.shape[:1]:
        raise UserError(
            f"expected points [N, 2] and labels [N], came {points.shape}, {labels.shape}"
        )
    figure, axes = plt.subplots(figsize=(6.4, 5), layout="constrained")
    colors = plt.colormaps["tab10" if labels.max() < 10 else "tab20"]
    for label in np.unique(labels):
        chosen = points[labels == label]
        name = str(label) if class_names is None else class_names[label]
        axes.scatter(*chosen.T, s=6, color=colors(label % colors.N), label=name)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(title)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), markerscale=2, frameon=False)
    return figure


@partial(jax.jit, static_argnums=0, static_argnames="endpoint")
def _features(model, variables, normalization, images, *, endpoint):
    found = run_endpoints(model, variables, image.prepare(images, normalization))[endpoint]
    return (found.mean((1, 2)) if found.ndim == 4 else found).astype(jnp.float32)
