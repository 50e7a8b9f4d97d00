"""Whitening: data turned, or turned there and back, so that its covariance is the identity."""

from typing import NamedTuple

import numpy as np

from ..errors import UserError, unknown

KINDS = ("zca", "pca")


class Whitening(NamedTuple):
    """An affine map of vectors and the one back; of images, of all their values as one vector.

    Attributes:
      mean: `[D]`.
      matrix: `[D, K]`; vectors `x [N, D]` are whitened as `(x - mean) @ matrix`.
      inverse: `[K, D]`.
    """

    mean: np.ndarray
    matrix: np.ndarray
    inverse: np.ndarray

    def apply(self, x):
        """Whitened vectors: `[N, …]` of D values each to `[N, K]`, or to the shape of `x` where K
        is D.

        Raises: UserError for vectors of another length.
        """
        vectors = x.reshape(len(x), -1)
        if vectors.shape[1] != len(self.mean):
            raise UserError(f"vectors of {len(self.mean)} values, not {vectors.shape[1]}")
        y = (vectors - self.mean.reshape(1, -1)) @ self.matrix
        return y.reshape(x.shape) if self.matrix.shape[0] == self.matrix.shape[1] else y

    def invert(self, y):
        """The vectors `[N, D]` of whitened ones, less what was left out.

        Raises: UserError for vectors of another length.
        """
        vectors = y.reshape(len(y), -1)
        if vectors.shape[1] != len(self.inverse):
            raise UserError(f"vectors of {len(self.inverse)} values, not {vectors.shape[1]}")
        return vectors @ self.inverse + self.mean.reshape(1, -1)


def fit_whitening(
    x, kind: str = "zca", *, epsilon: float = 0.0, components: int | None = None
) -> Whitening:
    """The whitening of data.

    With the covariance `U diag(s) Uᵀ` of the data, biased, the matrix is `U diag(1 / sqrt(s +
    epsilon))` for `pca`, of the leading components first, and that times `Uᵀ` for `zca`, the
    whitening that changes the data least.

    Args:
      x: `[N, …]`, N vectors, or images of as many values.
      kind: `zca` or `pca`.
      epsilon: added to every variance, in the units of the data's squared; above 0 it keeps the
        noise of directions that hardly vary from being blown up.
      components: how many leading ones to keep; None for all.

    Returns: a `Whitening`, float32.

    Raises: UserError for an unknown kind, fewer than two vectors, infinite values and NaN, more
      components than values, and for a component without variance where epsilon is 0.

    Reference: Bell, Sejnowski 1997, "The 'independent components' of natural scenes are edge
    filters", section 3 (ZCA).

    >>> x = np.random.default_rng(0).normal(size=(500, 3)) * [1.0, 5.0, 9.0]
    >>> np.abs(np.cov(fit_whitening(x).apply(x).T, bias=True)).round(2).tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    if kind not in KINDS:
        raise unknown("whitening", kind, KINDS)
    if len(x) < 2:
        raise UserError(f"a covariance needs two vectors at least, came {len(x)}")
    x = np.asarray(x, np.float64).reshape(len(x), -1)
    if not np.isfinite(x).all():
        raise UserError("values that are not finite cannot be whitened")
    values = x.shape[1]
    components = values if components is None else components
    if not 1 <= components <= values:
        raise UserError(f"there are 1 to {values} components, not {components}")
    if not epsilon >= 0:
        raise UserError(f"epsilon must not be negative, came {epsilon}")
    mean = x.mean(0)
    variances, directions = np.linalg.eigh(np.cov((x - mean).T, bias=True).reshape(values, values))
    variances, directions = variances[::-1][:components], directions[:, ::-1][:, :components]
    variances = np.maximum(variances, 0) + epsilon
    if variances[-1] <= 1e-12 * variances[0]:
        raise UserError(
            f"component {components} has no variance: keep fewer components, or give an epsilon"
        )
    deviations = np.sqrt(variances)
    matrix, inverse = directions / deviations, (directions * deviations).T
    if kind == "zca":
        matrix, inverse = matrix @ directions.T, directions @ inverse
    return Whitening(*(part.astype(np.float32) for part in (mean, matrix, inverse)))
