import matplotlib.pyplot as plt
import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from convnets.data.sources import ArraySource
from convnets.errors import UserError
from convnets.visualize import (
    compute_endpoints,
    nearest_neighbors,
    plot_embedding,
    read_features,
    tsne,
)

from .networks import classifier, random_images, random_variables

MODEL = classifier()
IMAGES = (random_images(10) * 255).astype(np.uint8)
VARIABLES = random_variables(MODEL, IMAGES[:1] / np.float32(255))


@pytest.mark.parametrize("endpoint", ["pre_logits", "conv1"])
def test_features_are_those_of_every_image(endpoint):
    source = ArraySource(IMAGES, np.zeros(10, int))
    found = read_features(MODEL, VARIABLES, source, endpoint, batch_size=4)
    expected = compute_endpoints(MODEL, VARIABLES, IMAGES)[endpoint]
    expected = expected if endpoint == "pre_logits" else expected.mean((1, 2))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(UserError, match="unknown endpoint 'conv7'"):
        read_features(MODEL, VARIABLES, source, "conv7")


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_neighbors_are_those_of_a_search_through_all(metric):
    rng = np.random.default_rng(0)
    features, queries = rng.normal(size=(40, 5)), rng.normal(size=(6, 5))
    positions, distances = nearest_neighbors(features, queries, count=7, metric=metric)
    for query, found, far in zip(queries, positions, distances):
        if metric == "euclidean":
            every = np.linalg.norm(features - query, axis=1)
        else:
            lengths = np.linalg.norm(features, axis=1) * np.linalg.norm(query)
            every = 1 - features @ query / lengths
        np.testing.assert_array_equal(found, np.argsort(every)[:7])
        np.testing.assert_allclose(far, np.sort(every)[:7], atol=1e-6)
    with pytest.raises(UserError, match="40 features, and 41 neighbors"):
        nearest_neighbors(features, queries, count=41)
    with pytest.raises(UserError, match=r"features \[N, D\] and queries"):
        nearest_neighbors(features, queries[:, :3])


def test_clusters_stay_apart_in_the_plane():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 20)
    features = 30 * np.eye(3, 8)[labels] + rng.normal(size=(60, 8))
    with threadpool_limits(1):  # so few points are not worth the waiting of threads for each other
        points = tsne(features, perplexity=10)
    assert points.shape == (60, 2)
    nearest = nearest_neighbors(points, points, count=6)[0][:, 1:]
    assert (labels[nearest] == labels[:, None]).all()
    figure = plot_embedding(points, labels, class_names=["a", "b", "c"], title="three")
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["a", "b", "c"]
    assert sum(len(part.get_offsets()) for part in figure.axes[0].collections) == 60
    plt.close(figure)
    with pytest.raises(UserError, match="between 0 and 60 features"):
        tsne(features, perplexity=60)
