"""Metrics against counting in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convnets import metrics


@pytest.mark.parametrize("k", [1, 2, 5, 9])
def test_top_k_counts_what_sorting_finds(k):
    random = np.random.default_rng(0)
    logits = random.integers(0, 4, size=(200, 6)).astype(np.float32)  # full of ties
    labels, mask = random.integers(0, 6, 200), random.random(200) < 0.7
    best = np.argsort(-logits, axis=1, kind="stable")[:, :k]  # equal logits: lower index first
    hits = (best == labels[:, None]).any(1)
    correct, count = jax.jit(metrics.top_k_correct, static_argnums=2)(logits, labels, k)
    assert (correct, count) == (hits.sum(), 200)
    correct, count = metrics.top_k_correct(logits, labels, k, mask)
    wrong, same = metrics.top_k_error(logits, labels, k, mask)
    assert (correct, count) == ((hits & mask).sum(), mask.sum())
    assert (wrong, same) == ((~hits & mask).sum(), mask.sum())
    assert {x.dtype for x in (correct, wrong, count)} == {jnp.dtype("int32")}


def test_nan_logits_and_labels_that_are_no_class_are_wrong():
    nan, inf = np.nan, np.inf
    logits = np.array([[nan, 1], [1, nan], [nan, nan], [inf, 0], [0, -inf], [0, 1], [0, 1]])
    labels = np.array([0, 0, 0, 0, 1, -1, 2])
    correct, count = metrics.top_k_correct(logits.astype(np.float32), labels, 2)
    assert (correct, count) == (2, 7)
    matrix, count = metrics.confusion_matrix(logits.astype(np.float32), labels)
    assert (matrix.tolist(), count) == ([[1, 0], [1, 0]], 7)


def test_bytes_as_labels_reach_beyond_255_classes():
    logits = np.zeros((1, 300), np.float32)
    logits[0, 7], logits[0, 7 + 256] = 1, 2
    labels = np.array([7], np.uint8)
    assert metrics.top_k_correct(logits, labels, 1)[0] == 0
    assert metrics.top_k_correct(logits, labels, 2)[0] == 1
    matrix, _ = metrics.confusion_matrix(logits, np.array([200], np.uint8))
    assert (matrix.sum(), matrix[200, 263]) == (1, 1)


def test_confusion_matrix_counts_pairs():
    random = np.random.default_rng(0)
    logits = random.integers(0, 3, size=(5, 30, 4)).astype(np.float32)
    labels, mask = random.integers(0, 4, (5, 30)), random.random((5, 30)) < 0.7
    expected = np.zeros((4, 4), int)
    np.add.at(expected, (labels[mask], logits.argmax(-1)[mask]), 1)
    matrix, count = jax.jit(metrics.confusion_matrix)(logits, labels, mask)
    assert matrix.dtype == jnp.int32
    np.testing.assert_array_equal(matrix, expected)
    assert count == mask.sum()
    assert np.trace(matrix) == metrics.top_k_correct(logits, labels, 1, mask)[0]


def test_mean_metric_leaves_out_what_is_masked():
    total, count = metrics.mean_metric(np.array([1, 2, np.nan], np.float32), [True, True, False])
    assert (total, count) == (3, 2)
    assert (total.dtype, count.dtype) == (jnp.float32, jnp.int32)
    halves = metrics.mean_metric(jnp.full(1000, 1.0, jnp.bfloat16))
    assert (halves[0], halves[1]) == (1000, 1000)


def test_batches_add_up_to_the_whole_beyond_the_reach_of_float32():
    batch = {"loss": (jnp.float32(2**24), jnp.int32(2**30)), "hits": (jnp.int32(1), jnp.int32(2))}
    total = metrics.to_host(batch)
    for extra in (1.0, 1.0):
        more = {"loss": (jnp.float32(extra), jnp.int32(2**30)), "hits": batch["hits"]}
        total = metrics.add(total, metrics.to_host(more))
    assert total["loss"] == (2**24 + 2, 3 * 2**30)
    finished = metrics.finish(total)
    assert finished == {"loss": (2**24 + 2) / (3 * 2**30), "hits": 0.5}
    assert {type(value) for value in finished.values()} == {float}
    summed = jax.jit(metrics.add)(batch, batch)
    assert metrics.finish({"hits": summed["hits"]}) == {"hits": 0.5}
    assert summed["hits"] == (2, 4)


def test_finish_divides_arrays_and_says_nan_for_nothing():
    matrix = metrics.confusion_matrix(jnp.eye(2), jnp.array([0, 0]))
    finished = metrics.finish({"confusion": matrix, "none": (jnp.float32(0), jnp.int32(0))})
    assert finished["confusion"].tolist() == [[0.5, 0.5], [0, 0]]
    assert np.isnan(finished["none"])


def test_what_does_not_fit_is_refused():
    logits, labels = jnp.zeros((4, 3)), jnp.zeros(4, jnp.int32)
    with pytest.raises(ValueError, match=r"mask of shape \(4,\), came \(3,\)"):
        metrics.top_k_correct(logits, labels, 1, jnp.ones(3, bool))
    with pytest.raises(ValueError, match=r"\(4, 3\) and labels \(3,\)"):
        metrics.top_k_error(logits, labels[:3])
    with pytest.raises(ValueError, match="at least 1"):
        metrics.top_k_correct(logits, labels, 0)


def test_labels_are_integers():
    for metric in (metrics.top_k_correct, metrics.confusion_matrix):
        with pytest.raises(TypeError, match="labels are integers, not float32"):
            metric(jnp.ones((1, 2)), jnp.array([0.9]))
