"""Whitening against scikit-learn, and what tells its two kinds apart."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from convnets.errors import UserError
from convnets.unsupervised import fit_whitening

X = np.random.default_rng(0).normal(size=(400, 5)) @ np.random.default_rng(1).normal(size=(5, 5))


@pytest.mark.parametrize("kind", ["zca", "pca"])
def test_the_covariance_becomes_the_identity_and_the_way_back_is_exact(kind):
    whitening = fit_whitening(X + 3, kind)
    y = whitening.apply(np.float32(X + 3))
    np.testing.assert_allclose(np.cov(y.T, bias=True), np.eye(5), atol=1e-4)
    np.testing.assert_allclose(y.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(whitening.invert(y), X + 3, atol=1e-3)


def test_pca_is_that_of_scikit_learn():
    y = fit_whitening(X, "pca", components=3).apply(X)
    expected = PCA(3, whiten=True).fit_transform(X) * np.sqrt(400 / 399)
    np.testing.assert_allclose(np.abs(y), np.abs(expected), rtol=1e-4, atol=1e-4)


def test_zca_is_the_symmetric_root():
    matrix = fit_whitening(X).matrix
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-5)
    np.testing.assert_allclose(matrix @ matrix @ np.cov(X.T, bias=True), np.eye(5), atol=1e-3)


def test_epsilon_is_added_to_the_variances():
    variances = np.linalg.eigvalsh(np.cov(X.T, bias=True))
    y = fit_whitening(X, epsilon=0.5).apply(X)
    found = np.linalg.eigvalsh(np.cov(y.T, bias=True))
    np.testing.assert_allclose(found, np.sort(variances / (variances + 0.5)), rtol=1e-4)


def test_vectors_of_another_length_are_refused():
    with pytest.raises(UserError, match="vectors of 5 values, not 4"):
        fit_whitening(X).apply(X[:, :4])
    with pytest.raises(UserError, match="vectors of 5 values, not 4"):
        fit_whitening(X).invert(X[:, :4])


def test_images_keep_their_shape():
    images = X[:, :4].reshape(400, 2, 2, 1)
    assert fit_whitening(images).apply(images).shape == images.shape
    assert fit_whitening(images, components=2).apply(images).shape == images.shape
    assert fit_whitening(images, "pca", components=2).apply(images).shape == (400, 2)


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (X, {"kind": "xca"}, "unknown whitening"),
        (X[:1], {}, "two vectors at least"),
        (X[:0], {}, "two vectors at least"),
        (np.full_like(X, np.nan), {}, "not finite"),
        (X, {"components": 6}, "1 to 5 components"),
        (X, {"epsilon": -1}, "epsilon must not be negative"),
        (X * [1, 1, 1, 1, 0], {}, "component 5 has no variance"),
    ],
)
def test_what_cannot_be_whitened_is_refused(x, options, message):
    with pytest.raises(UserError, match=message):
        fit_whitening(x, **options)
